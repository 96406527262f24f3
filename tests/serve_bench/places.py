"""Addresses on this machine, and which cores everything shares."""

from __future__ import annotations

import os
import socket

HOST = "127.0.0.1"
CORES = 2


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    taken = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def stay_on_cores() -> int:
    """Keep this process, and all that it starts, to two cores; return how many it has got."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    return len(cores)
