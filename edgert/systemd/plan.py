"""Which files a machine gets, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edgert.errors import ConfigError
from edgert.systemd.board import Board
from edgert.systemd.credentials import FIRST_VERSION, credentials_drop_in
from edgert.systemd.devices import devices_drop_in, uses_nvidia_driver
from edgert.systemd.machine import Machine
from edgert.systemd.program import PACKAGED_PROGRAM, program_drop_in
from edgert.systemd.stamp import is_ours, stamped

UNITS = ("edgert@.service", "edgert.target")
UNIT_FOLDER = Path("/etc/systemd/system")
DROP_INS = UNIT_FOLDER / "edgert@.service.d"
CREDENTIALS = "50-credentials.conf"
_DROP_IN_NAMES = (
    "10-program.conf",
    "20-devices.conf",
    "30-argus.conf",
    "40-systemd-253.conf",
    "41-systemd-254.conf",
)
_BESIDE = ("sysusers.d", "tmpfiles.d", "modules-load.d")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")


class Request(msgspec.Struct, frozen=True):
    """What `edgert systemd` was asked for."""

    instances: tuple[str, ...]
    board: Board
    program: Path
    program_folders: tuple[Path, ...] = ()  # what it needs to read, beside its own
    credentials: tuple[str, ...] = ()


def shipped(name: str) -> str:
    """Return a file that comes with edgert: from the wheel, or from the repository that this runs in."""
    inside = Path(__file__).parent / "units"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "systemd"
    return (folder / name).read_text("utf-8")


def planned(machine: Machine, request: Request) -> dict[Path, bytes]:
    """Return the content of each file, by its path on the machine. Raises ConfigError."""
    machine.demand_systemd()
    version = machine.systemd_version()
    texts = dict(_units(machine))
    texts |= dict(_drop_ins(version, request))
    texts |= dict(_credentials(machine, version, request))
    return {path: stamped(text) for path, text in texts.items()}


def check_instance(name: str) -> None:
    """Raise ConfigError for a name that no pipeline file can have."""
    if not _INSTANCE.fullmatch(name):
        raise ConfigError(f"{name}: expected a pipeline's name, as door for /etc/edgert/door.toml")


def instance_folder(instance: str) -> Path:
    """Return where the drop-ins of one instance are."""
    return UNIT_FOLDER / f"edgert@{instance}.service.d"


def written_before(machine: Machine, instances: Sequence[str] = ()) -> list[Path]:
    """Return what stands where we write, by its path on the machine. With instances, only what is theirs."""
    places = [f"{instance_folder(name)}/{CREDENTIALS}" for name in instances or ("*",)]
    if not instances:
        places += [f"{UNIT_FOLDER}/{unit}" for unit in UNITS]
        places += [
            *(f"{DROP_INS}/{name}" for name in _DROP_IN_NAMES),
            *(f"/etc/{place}/edgert.conf" for place in _BESIDE),
        ]
    found = {path for place in places for path in machine.root.glob(place.lstrip("/"))}
    return sorted(Path("/", path.relative_to(machine.root)) for path in found)


def obsolete(machine: Machine, plan: dict[Path, bytes]) -> list[Path]:
    """Return files of ours that the plan no longer has; those of instances are theirs."""
    found = [path for path in written_before(machine) if path.name != CREDENTIALS and path not in plan]
    return [path for path in found if is_ours(machine.at(path))]


def _units(machine: Machine) -> Iterator[tuple[Path, str]]:
    """Yield units and user, unless a package has brought them."""
    if machine.packaged(UNITS[0]) is None:
        for unit in UNITS:
            yield UNIT_FOLDER / unit, shipped(unit)
    for place in ("sysusers.d", "tmpfiles.d"):
        if not machine.at(f"/usr/lib/{place}/edgert.conf").is_file():
            yield Path("/etc", place, "edgert.conf"), shipped(f"{place}/edgert.conf")


def _drop_ins(version: int | None, request: Request) -> Iterator[tuple[Path, str]]:
    if request.program != PACKAGED_PROGRAM:
        folders = (request.program.parent.parent, *request.program_folders)
        yield DROP_INS / "10-program.conf", program_drop_in(request.program, folders)
    yield DROP_INS / "20-devices.conf", devices_drop_in(request.board)
    names = (
        ("30-argus.conf", request.board.has_argus),
        ("40-systemd-253.conf", version is not None and version >= 253),
        ("41-systemd-254.conf", version is not None and version >= 254),
    )
    for name, is_wanted in names:
        if is_wanted:
            yield DROP_INS / name, shipped(f"drop-ins/{name}")
    if "nvidia-uvm" in request.board.groups and uses_nvidia_driver(request.board):
        yield Path("/etc/modules-load.d/edgert.conf"), shipped("modules-load.d/edgert.conf")


def _credentials(machine: Machine, version: int | None, request: Request) -> Iterator[tuple[Path, str]]:
    if not request.credentials:
        return
    if not request.instances:
        raise ConfigError("--credential: for which instance? Name it: edgert systemd install INSTANCE")
    if version is not None and version < FIRST_VERSION:
        raise ConfigError(f"--credential needs systemd {FIRST_VERSION} or later; there is {version}.")
    text = credentials_drop_in(request.credentials, machine)
    for instance in request.instances:
        yield instance_folder(instance) / CREDENTIALS, text
