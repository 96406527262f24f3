"""Wakes a thread that waits on descriptors."""

from __future__ import annotations

import contextlib
import socket


class Waker:
    """A descriptor that becomes readable when somebody calls `wake`. Many calls cost one system call."""

    def __init__(self) -> None:
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._is_set = False

    def open(self) -> None:
        """Make the descriptor."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._sockets = receiver, sender

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 if not open."""
        return self._sockets[0].fileno() if self._sockets else -1

    def wake(self) -> None:
        """Make the descriptor readable until `clear`. Any thread; does nothing unless open."""
        if self._is_set or self._sockets is None:
            return
        self._is_set = True
        with contextlib.suppress(OSError):  # closed meanwhile: nobody is left to wake
            self._sockets[1].send(b"\0")

    def clear(self) -> None:
        """Begin a round: take in all that was put in before a `wake`; what comes later wakes again."""
        if self._sockets is not None:
            with contextlib.suppress(BlockingIOError):
                self._sockets[0].recv(64)
        self._is_set = False

    def close(self) -> None:
        """Close the descriptor."""
        for end in self._sockets or ():
            end.close()
