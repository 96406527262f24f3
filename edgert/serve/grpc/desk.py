"""Where the inferences of unary calls and of streams meet: limits, time, the core."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial

import msgspec

from edgert.errors import UnavailableError
from edgert.frames.request import Responder
from edgert.serve.core import InferenceCore
from edgert.serve.gate import Gate
from edgert.serve.grpc.request import Arrived, is_long, read_infer
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.wire import cut
from edgert.serve.mailbox import Mailbox
from edgert.serve.options import LimitOptions
from edgert.serve.shared_memory import SharedMemory


class Desk(msgspec.Struct, frozen=True, eq=False):
    """What the calls of one front share."""

    core: InferenceCore
    regions: SharedMemory | None
    limits: LimitOptions
    gate: Gate
    executor: Executor  # for what would hold up the loop
    loop: asyncio.AbstractEventLoop
    mailbox: Mailbox

    async def read(self, data: Message, responder: Responder, *, is_local: bool) -> Arrived:
        """Read a request of a stream; what is long, on another thread. Raises RequestError."""
        regions = self.regions if is_local else None
        pieces = cut(data)
        read = partial(read_infer, pieces, responder, self.core, regions, self.gate.bodies)
        return await self.loop.run_in_executor(self.executor, read) if is_long(pieces) else read()

    def full(self) -> UnavailableError:
        """Return what a client hears that comes when too much is under way."""
        return UnavailableError(f"{self.gate.limit} requests are under way; try again later")
