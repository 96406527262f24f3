"""Which devices a machine has: what it lists itself, or what was recorded of a board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

# Looked at, below /dev; what is elsewhere is of no use to edgert.
_PLACES = ("nvmap", "nvhost-*", "nvgpu/*/*", "host1x-fence", "v4l2-nvdec", "dri/renderD*")
_ARGUS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


class Board(msgspec.Struct, frozen=True):
    """A machine's devices. `nodes` are paths below /dev, `groups` the character devices' drivers."""

    name: str
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    has_argus: bool = False  # JetPack's camera daemon


def look_at_board(root: Path) -> Board:
    """Return what the machine whose file system is at `root` lists now."""
    name = _read(root / "proc/device-tree/model").strip("\0\n ") or "no Jetson or DRIVE board"
    nodes = {str(path.relative_to(root / "dev")) for place in _PLACES for path in (root / "dev").glob(place)}
    has_argus = any((root / place / "nvargus-daemon.service").exists() for place in _ARGUS)
    return Board(name, tuple(character_groups(_read(root / "proc/devices"))), tuple(sorted(nodes)), has_argus)


def character_groups(proc_devices: str) -> Iterator[str]:
    """Yield the names of the character devices' drivers that /proc/devices lists, each once."""
    section = proc_devices.partition("Block devices:")[0].partition("Character devices:")[2]
    names = (line.split(maxsplit=1)[1].strip() for line in section.splitlines() if line.strip())
    yield from dict.fromkeys(names)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


_TEGRA = ("nvmap", "host1x-fence", "v4l2-nvdec", "dri/renderD128")
_NVGPU = ("as", "channel", "ctrl", "nvsched", "nvsched_ctrl_fifo", "power", "tsg")

RECORDED = {
    "orin": Board(
        "Jetson Orin, as recorded for L4T 36",
        ("video4linux",),
        (*_TEGRA, *(f"nvgpu/igpu0/{node}" for node in _NVGPU), "nvhost-ctrl-nvdla0", "nvhost-ctrl-nvdla1"),
        has_argus=True,
    ),
    "thor": Board(
        "Jetson Thor, as recorded for L4T 38", ("nvidia", "nvidia-uvm", "video4linux"), _TEGRA, has_argus=True
    ),
    "none": Board("a machine without an NVIDIA GPU", ("video4linux",), ()),
}
