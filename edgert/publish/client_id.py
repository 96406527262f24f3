"""A client id that two nodes cannot share by accident: brokers disconnect the older of two."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")


def default_client_id(node: str, sink: str, machine: str) -> str:
    """Return `edgert-<node>-<8 hex of machine, node and sink>`. The machine's id cannot be read from it."""
    digest = hashlib.sha256(f"edgert\n{machine}\n{node}\n{sink}".encode()).hexdigest()
    return f"edgert-{node}-{digest[:8]}"


def machine_id(
    path: Path = MACHINE_ID, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> str:
    """Return the machine's id; where it has none, a random one, stored for the next start if possible."""
    found = _read(path)
    if found and found != "uninitialized":
        return found
    return _stored(state_folder(environment, home) / "machine-id")


def state_folder(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> Path:
    """Return where what outlives a process is kept: systemd's StateDirectory=, or the XDG folder."""
    service = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if service:
        return Path(service)
    return Path(environment.get("XDG_STATE_HOME") or (home or Path.home()) / ".local" / "state") / "edgert"


def _stored(path: Path) -> str:
    stored = _read(path)
    if stored:
        return stored
    fresh = os.urandom(16).hex()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fresh, "ascii")
    except OSError as error:
        log.info("No machine id, and %s cannot be written: the client id will change (%s)", path, error)
    return fresh


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
