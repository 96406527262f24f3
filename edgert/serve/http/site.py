"""What the connections of one HTTP front share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Literal

import msgspec

from edgert.serve.access import is_local
from edgert.serve.connections import Connections
from edgert.serve.gate import Gate
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import Head
from edgert.serve.mailbox import Mailbox
from edgert.serve.options import LimitOptions
from edgert.stats import Tally

SCRATCH_BYTES = 1 << 16


# On the fronts' thread, on one of those for what may block, or on one of those that load models.
Where = Literal["here", "aside", "control"]
Phase = Literal["idle", "arriving", "answering", "taking", "closing"]  # of a connection


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
        self.is_local = is_local(transport)  # on this machine


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
        self.seconds: Mapping[Phase, float] = {"idle": limits.idle_s, "answering": limits.answer_s}
        self.admit = admit
        self.gate = gate
        self.executors = executors
        self.loop = loop
        self.mailbox = Mailbox(loop)
        self.counts = counts
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections = Connections(limits, loop)
