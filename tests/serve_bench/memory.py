"""How much memory a group of processes has, as if they were alone on the machine.

Linux's PSS divides a page by all who map it. Where another program maps the same libraries, as on the
machine of a developer, it shrinks; so the figures count such pages whole, once for the group. On a machine
that runs nothing else both are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_HEAD = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+)\s*(.*)")
_OURS = ("Private_Clean", "Private_Dirty")
_SHARED = ("Shared_Clean", "Shared_Dirty")


class Mapping(NamedTuple):
    """One mapping of one process, bytes."""

    place: tuple[str, str, str]  # device, inode, offset: the same in all that map it
    private: int
    shared: int
    proportional: int


class Memory(NamedTuple):
    """Of a group."""

    alone_bytes: int
    pss_bytes: int


def memory_of(pids: Iterable[int]) -> Memory:
    """Weigh a group. A process that has gone meanwhile weighs nothing."""
    return added([read_smaps(text) for text in map(_smaps, pids)])


def added(processes: Iterable[list[Mapping]]) -> Memory:
    """Return private pages, and of each mapping that is shared the most that any process has of it."""
    private = proportional = 0
    shared: dict[tuple[str, str, str], int] = {}
    for mappings in processes:
        for mapping in mappings:
            private += mapping.private
            proportional += mapping.proportional
            shared[mapping.place] = max(shared.get(mapping.place, 0), mapping.shared)
    return Memory(private + sum(shared.values()), proportional)


def read_smaps(text: str) -> list[Mapping]:
    """Read /proc/PID/smaps."""
    mappings: list[Mapping] = []
    place, sizes = ("", "", ""), dict[str, int]()
    for line in [*text.splitlines(), "0-0 end 0 0 0"]:
        head = _HEAD.match(line)
        if head is None:
            name, _, rest = line.partition(":")
            if rest.endswith("kB"):
                sizes[name] = int(rest.split()[0]) * 1024
            continue
        if sizes:
            mappings.append(_mapping(place, sizes))
        place, sizes = (head[2], head[3], head[1]), {}
    return mappings


def _mapping(place: tuple[str, str, str], sizes: dict[str, int]) -> Mapping:
    return Mapping(
        place, sum(sizes[name] for name in _OURS), sum(sizes[name] for name in _SHARED), sizes["Pss"]
    )


def _smaps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/smaps").read_text()
    except OSError:
        return ""
