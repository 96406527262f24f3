"""What the connections of one gRPC front share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from edgert.errors import UnavailableError
from edgert.serve.bodies import Bodies
from edgert.serve.connections import Connections
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.transport.faults import FaultsTo
from edgert.serve.grpc.transport.hpack import Headers
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.options import LimitOptions
from edgert.stats import Tally

SCRATCH_BYTES = 1 << 16


class Method(Protocol):
    """What answers calls of one method."""

    is_streaming: bool

    def begin(self, rpc: Rpc) -> None:
        """A streaming call has begun; its messages are read from it. Must not raise."""

    def answer(self, rpc: Rpc, message: Message) -> None:
        """A call's only message is here. Must not raise."""


class UnaryMethod:
    """A function answers, now or later; it may raise EdgertError."""

    is_streaming = False

    def __init__(self, run: Callable[[Rpc, Message], None]) -> None:
        self._run = run

    def begin(self, rpc: Rpc) -> None:
        """Wait for the message."""

    def answer(self, rpc: Rpc, message: Message) -> None:
        """Run the function."""
        with FaultsTo(rpc.fail):
            self._run(rpc, message)


class StreamingMethod:
    """A coroutine answers; it may raise EdgertError."""

    is_streaming = True

    def __init__(self, run: Callable[[Rpc], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, rpc: Rpc) -> None:
        """Start the coroutine. A client that goes, or the server's end, cancels it."""
        task = asyncio.ensure_future(self._guarded(rpc))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        rpc.on_gone = task.cancel
        rpc.on_stop = partial(_stop, rpc)

    def answer(self, rpc: Rpc, message: Message) -> None:
        """Leave the message to the coroutine."""

    async def _guarded(self, rpc: Rpc) -> None:
        with FaultsTo(rpc.fail):
            await self._run(rpc)
            rpc.end()


class Site:
    """Limits, counts and methods. `counts` has the calls that failed, by status."""

    def __init__(
        self,
        limits: LimitOptions,
        find: Callable[[Headers], Method],
        loop: asyncio.AbstractEventLoop,
        counts: Tally,
        bodies: Bodies,
        executor: Executor,
    ) -> None:
        """`find` says what answers a call, from its headers; it raises EdgertError to refuse it.

        `executor` inflates messages.
        """
        self.limits = limits
        self.find = find
        self.loop = loop
        self.counts = counts
        self.bodies = bodies
        self.executor = executor
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))  # for one connection at a time
        self.connections = Connections(limits, loop)


def stopping() -> UnavailableError:
    """Return what a client hears whose call has no end of its own."""
    return UnavailableError("The server is stopping.")


def _stop(rpc: Rpc) -> None:
    rpc.on_gone()
    rpc.fail(stopping())
