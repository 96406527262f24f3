"""A service manager's end of $NOTIFY_SOCKET: a real datagram socket that keeps what it is told."""

from __future__ import annotations

import socket
import time
from pathlib import Path

WAIT_S = 20.0  # before a test gives up


class Manager:
    """Takes messages as they come; each is {key: value}. `address` is for $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self.came_s: list[float] = []  # when, by time.monotonic
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink()

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        """Return what a unit's process gets."""
        told = {"NOTIFY_SOCKET": self.address}
        return told if watchdog_s is None else told | {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def next(self, timeout_s: float = WAIT_S) -> dict[str, str]:
        """Return the next message. Raises TimeoutError."""
        self._socket.settimeout(max(1e-6, timeout_s))
        text = self._socket.recv(4096).decode()
        self.messages.append(dict(line.split("=", 1) for line in text.split("\n")))
        self.came_s.append(time.monotonic())
        return self.messages[-1]

    def wait_for(self, key: str, part: str = "", timeout_s: float = WAIT_S) -> dict[str, str]:
        """Return the next message that has the key, with a value that contains `part`."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while part not in (message := self.next(deadline_s - time.monotonic())).get(key, ()):
                pass
        except TimeoutError:
            raise AssertionError(f"No {key} with {part!r}: {self.messages}") from None
        return message

    def drain(self) -> list[dict[str, str]]:
        """Take what has come, without waiting; return all messages."""
        try:
            while True:
                self.next(0.0)
        except (TimeoutError, BlockingIOError):
            return self.messages

    def keys(self, *wanted: str) -> list[str]:
        """Return those of the wanted keys that came, in order."""
        return [key for message in self.messages for key in message if key in wanted]
