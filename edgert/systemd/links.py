"""The links that `systemctl enable` makes to our units."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from edgert.systemd.machine import Machine
from edgert.systemd.plan import UNIT_FOLDER, UNITS
from edgert.systemd.stamp import is_ours


def links_to(machine: Machine, instances: tuple[str, ...] = ()) -> list[Path]:
    """Return the links in *.wants folders that start these instances; without any, all to units of ours."""
    names = [f"edgert@{name}.service" for name in instances] or [*_patterns(machine)]
    links = [path for path in machine.at(UNIT_FOLDER).glob("*.wants/*") if path.is_symlink()]
    return sorted(link for link in links if any(fnmatchcase(link.name, name) for name in names))


def _patterns(machine: Machine) -> list[str]:
    """Return what links to our units are called. A unit that was edited stays, and so do the links to it."""
    ours = [unit for unit in UNITS if is_ours(machine.at(UNIT_FOLDER / unit))]
    return [unit.replace("@.", "@*.") for unit in ours]
