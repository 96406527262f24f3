"""Other threads' answers on their way to the fronts' thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any


class Mailbox:
    """Calls functions on an event loop's thread, in order. Many that come together wake it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_awake = False

    def post(self, call: Callable[..., None], *arguments: Any) -> None:
        """Let the loop make a call. Any thread; what comes after the loop has ended is forgotten."""
        self._calls.append((call, arguments))
        if not self._is_awake:
            self._is_awake = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_awake = False  # first: what is put in from here on wakes the loop again
        while self._calls:
            call, arguments = self._calls.popleft()
            call(*arguments)
