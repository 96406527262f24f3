"""What the connections of one HTTP front share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Literal

import msgspec

from edgert.serve.gate import Gate
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import Head
from edgert.serve.mailbox import Mailbox
from edgert.serve.options import LimitOptions
from edgert.stats import Tally

if TYPE_CHECKING:
    from edgert.serve.http.connection import Connection

SCRATCH_BYTES = 1 << 16


# On the fronts' thread, on one of those for what may block, or on one of those that load models.
Where = Literal["here", "aside", "control"]


Later = Callable[[], None]


class Job(msgspec.Struct, frozen=True):
    """Who answers a request: `run` replies, then or later, or raises EdgertError.

    What `run` returns is done "aside": it has found out that it would take long.
    """

    run: Callable[[Exchange], Later | None]
    where: Where = "here"


class Peer:
    """Who is at the other end of a connection."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        peer = self._transport.get_extra_info("peername")
        own = self._transport.get_extra_info("sockname")
        if not peer or not own:
            return False
        host = peer[0]
        return host in (own[0], "::1") or host.startswith(("127.", "::ffff:127."))


class Site:
    """Limits, counts and routes. `counts` has what was refused or given up, by reason."""

    def __init__(
        self,
        limits: LimitOptions,
        admit: Callable[[Head, Peer], Job],
        *,
        gate: Gate,
        executors: Mapping[Where, Executor],
        loop: asyncio.AbstractEventLoop,
        counts: Tally,
    ) -> None:
        """`admit` says who answers a request, from its head alone; it raises EdgertError to refuse it.

        `executors` are those for "aside" and "control".
        """
        self.limits = limits
        self.admit = admit
        self.gate = gate
        self.executors = executors
        self.loop = loop
        self.mailbox = Mailbox(loop)
        self.counts = counts
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections: set[Connection] = set()
        self.is_stopping = False
        self.all_gone = asyncio.Event()
        self.all_gone.set()

    def join(self, connection: Connection) -> bool:
        """Take a connection in; False if there are too many."""
        self.connections.add(connection)
        self.all_gone.clear()
        return len(self.connections) <= self.limits.connections

    def part(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self.all_gone.set()
