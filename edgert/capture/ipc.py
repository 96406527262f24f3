"""The files behind ipc:// addresses, which libzmq unlinks without a look and leaves behind."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

from edgert.errors import SourceError

PROBE_S = 0.2  # how long a listener may take to accept


def ipc_path(address: str) -> Path | None:
    """Return the file of an ipc:// address; None for other transports and for ipc://@NAME."""
    name = address.removeprefix("ipc://")
    return None if name == address or name.startswith("@") else Path(name)


def demand_free(path: Path) -> None:
    """Refuse a path that libzmq would unlink although somebody listens there, or it is no socket.

    A socket that a process left behind when it died is taken over.
    """
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise SourceError(f"ipc://{path} cannot be bound: there is a file that is no socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise SourceError(f"ipc://{path} cannot be bound: another process listens there, or owns it.")
