"""The Inference Server's fronts and the one thread that they run on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from typing import ClassVar, Protocol

from edgert.errors import EdgertError
from edgert.stats import LiveCount, Tally

log = logging.getLogger(__name__)

DRAIN_S = 10.0  # for requests under way, when the front closes
_MARGIN_S = 5.0  # for what comes after draining
_THREAD = "front"


class NetworkFront(Protocol):
    """HTTP or gRPC. Both calls are made on the fronts' event loop."""

    name: ClassVar[str]
    counts: Tally  # what it refused or gave up, by reason

    async def start(self) -> str:
        """Listen, and return the address. Raises ConfigError if it cannot be had."""

    async def stop(self, timeout_s: float) -> None:
        """Let requests under way be answered for at most that long, then close. Allowed when not started."""


class Front:
    """Runs fronts on an event loop in a thread of its own."""

    live: ClassVar[LiveCount] = LiveCount("front thread")

    def __init__(self, make: Callable[[], list[NetworkFront]]) -> None:
        """`make` is called on the loop's thread."""
        self._make = make
        self._fronts: list[NetworkFront] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> list[str]:
        """Start the thread, listen, and return the addresses. Raises ConfigError."""
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=self._run, args=(loop,), name=_THREAD, daemon=True)
        self.live.opened()
        self._thread.start()
        try:
            return asyncio.run_coroutine_threadsafe(self._start(), loop).result()
        except EdgertError:
            self.close()
            raise

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Answer what is under way for at most `drain_s`, then end. Allowed also when not open."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        future = asyncio.run_coroutine_threadsafe(self._stop(drain_s), loop)
        try:
            future.result(drain_s + _MARGIN_S)
        except concurrent.futures.TimeoutError:
            log.exception("the front did not end within %g s", drain_s + _MARGIN_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_MARGIN_S)
        self.live.closed()

    def refused(self) -> dict[str, dict[str, int]]:
        """Return what each front refused or gave up, by reason. Any thread."""
        return {front.name: front.counts.snapshot() for front in list(self._fronts)}

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    async def _start(self) -> list[str]:
        addresses = []
        for front in self._make():
            self._fronts.append(front)
            addresses.append(await front.start())
        return addresses

    async def _stop(self, drain_s: float) -> None:
        await asyncio.gather(*(front.stop(drain_s) for front in self._fronts))
        self._fronts = []
