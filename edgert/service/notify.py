"""What a service tells systemd: datagrams of KEY=VALUE lines to $NOTIFY_SOCKET; see sd_notify(3).

Where nobody asked for it everything here does nothing, and no failure ends the service.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar

from edgert.errors import EdgertError
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

SEND_S = 5.0  # how long a message may wait for a manager that does not read
MAX_STATUS_BYTES = 1000  # systemd ignores messages of more than 4096


class Notifier:
    """The way to the service manager. Any thread may send."""

    live: ClassVar[LiveCount] = LiveCount("notify socket")

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """Take the address as $NOTIFY_SOCKET has it: a path, or @ and an abstract name; empty: nobody."""
        self.watchdog_s = watchdog_s if address else None
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._is_warned = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Notifier:
        """Return what the environment asks this process for; a watchdog of another one is left alone."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            log.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract name; nobody is told", address)
            address = ""
        return cls(address, _watchdog_s(environment, pid))

    @property
    def is_on(self) -> bool:
        """Somebody wants to be told."""
        return bool(self._address)

    def send(self, fields: Mapping[str, str | int]) -> bool:
        """Send one message; False if that failed. Waits for the manager at most SEND_S."""
        if not self.is_on:
            return False
        text = "\n".join(f"{key}={_one_line(str(value))}" for key, value in fields.items())
        try:
            self._open().sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            level = logging.DEBUG if self._is_warned else logging.WARNING
            log.log(level, "systemd cannot be told %s: %s", " ".join(fields), error)
            self._is_warned = True
            return False
        self._is_warned = False
        return True

    def close(self) -> None:
        """Close the socket; the next `send` opens it again."""
        own, self._socket = self._socket, None
        if own is not None:
            own.close()
            self.live.closed()

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(SEND_S)
            self.live.opened()
        return self._socket


def failure_fields(error: EdgertError | None, code: int) -> dict[str, str | int]:
    """Return what is told of a process that ends with `code` because of `error`; None: nobody foresaw it."""
    said = "an error that edgert did not foresee; the log has it" if error is None else str(error)
    fields: dict[str, str | int] = {"STATUS": f"failed with exit code {code}: {said}", "EXIT_STATUS": code}
    number = _errno_of(error)
    return fields | {"ERRNO": number} if number else fields


def _errno_of(error: BaseException | None) -> int:
    """Return the number of the system's error that is behind this one; 0 if there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__ or error.__context__
    return 0


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return how long systemd waits for a sign of life; None if it waits for none of this process."""
    wanted, owner = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    with suppress(ValueError):
        if int(wanted) > 0 and (not owner or int(owner) == pid):
            return int(wanted) / 1e6
    return None


def this_process() -> Notifier:
    """Return the way to whoever manages this process."""
    return Notifier.from_environment(os.environ, os.getpid())


def _one_line(text: str) -> str:
    """Return the text without what would end the line, and cut where systemd would not read on."""
    plain = " ".join(text.split())
    cut = plain.encode(errors="replace")[:MAX_STATUS_BYTES]
    return cut.decode(errors="ignore")
