"""Other threads' answers on their way to the fronts' thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Mailbox:
    """Calls functions on an event loop's thread, in order. Many that come together wake it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """To be made on the loop's thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_awake = False

    def post(self, call: Callable[..., None], *arguments: Any) -> None:
        """Let the loop make a call. Any thread; what comes after the loop has ended is forgotten."""
        self._calls.append((call, arguments))
        if not self._is_awake:
            self._is_awake = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver)

    def hand_over(self, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call at once if this is the loop's thread and nothing is on its way, else post it."""
        if threading.get_ident() == self._thread and not self._calls:
            call(*arguments)
        else:
            self.post(call, *arguments)

    def _deliver(self) -> None:
        self._is_awake = False  # first: what is put in from here on wakes the loop again
        while self._calls:
            call, arguments = self._calls.popleft()
            call(*arguments)
