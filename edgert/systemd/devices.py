"""Which of a board's devices the service may open, why, and as what systemd is told.

systemd knows no patterns of paths, only single nodes and whole drivers (`char-NAME`). Nodes are named one by
one where they are always the same; a driver where its nodes come and go, or are made after the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from edgert.systemd.board import Board


class Rule(msgspec.Struct, frozen=True):
    """What a device is for. The first rule that fits one decides."""

    patterns: tuple[str, ...]
    why: str
    is_open: bool = True


# JetPack's own udev rules give these to the group `debug` or to root alone; CUDA does without them.
_DEBUG = ("ctxsw", "dbg", "prof", "prof-ctx", "prof-dev", "sched")

NODE_RULES = (
    Rule(
        (*(f"nvgpu/*/{name}" for name in _DEBUG), *(f"nvhost-{name}-gpu" for name in _DEBUG)),
        "debuggers, profilers and schedulers of the GPU",
        is_open=False,
    ),
    Rule(("nvmap",), "memory that the CPU and the units of a Tegra chip share; CUDA cannot start without"),
    Rule(("host1x-fence",), "fences between the units of a Tegra chip; CUDA cannot start without"),
    Rule(("nvgpu/*/*",), "the GPU of a Tegra chip"),
    Rule(("nvhost-ctrl", "nvhost-*gpu", "nvhost-*-gpu"), "the GPU of a Tegra chip, by its older names"),
    Rule(("nvhost-*nvdla*",), "DLA, for engines that were built for it"),
    Rule(
        ("v4l2-nvdec", "nvhost-*nvdec*", "nvhost-*nvjpg*", "nvhost-*vic"),
        "video decoder and scaler, for RTSP and camera pipelines",
    ),
    Rule(("dri/renderD*",), "render node of the GPU; CUDA on a Tegra chip and GStreamer open it"),
)
CAMERAS = Rule(("video4linux",), "cameras, also those that are plugged in later")
GROUP_RULES = (
    Rule(
        ("nvidia", "nvidia-frontend", "nvidiactl"),
        "the GPU; the open driver is called nvidia, the older nvidia-frontend",
    ),
    Rule(("nvidia-uvm",), "the GPU's memory"),
    Rule(("nvidia-caps",), "partitions of the GPU (MIG)"),
)


class Opening(msgspec.Struct, frozen=True):
    """What one rule lets the service open on a board, as DeviceAllow= takes it."""

    why: str
    devices: tuple[str, ...]


def openings(board: Board) -> Iterator[Opening]:
    """Yield what the service may open."""
    yield Opening(CAMERAS.why, ("char-video4linux",))
    for rule, nodes in _by_rule(board):
        if rule.is_open:
            yield Opening(rule.why, tuple(f"/dev/{node}" for node in nodes))
    if uses_nvidia_driver(board):
        for rule in GROUP_RULES:
            if found := tuple(group for group in board.groups if group in rule.patterns):
                yield Opening(rule.why, tuple(f"char-{group}" for group in found))


def left_closed(board: Board) -> Iterator[Opening]:
    """Yield what is there, is the GPU's, and stays closed."""
    for rule, nodes in _by_rule(board):
        if not rule.is_open:
            yield Opening(rule.why, tuple(f"/dev/{node}" for node in nodes))


def uses_nvidia_driver(board: Board) -> bool:
    """Say whether CUDA goes through the driver of discrete GPUs; on an Orin that serves the display only."""
    has_tegra_gpu = any(node.startswith("nvgpu/") for node in board.nodes)
    return "nvidia-uvm" in board.groups or not has_tegra_gpu


def devices_drop_in(board: Board) -> str:
    """Return the drop-in that opens the board's devices."""
    lines = [
        f"# Devices of this machine: {board.name}. `edgert systemd install` looks again.",
        "",
        "[Service]",
    ]
    for opening in openings(board):
        lines += [f"# {opening.why}", *(f"DeviceAllow={device} rw" for device in opening.devices)]
    for closed in left_closed(board):
        lines.append(f"# Left closed ({closed.why}): {' '.join(closed.devices)}")
    return "\n".join(lines) + "\n"


def _by_rule(board: Board) -> Iterator[tuple[Rule, list[str]]]:
    """Yield each rule that is the first to fit some node, with these nodes."""
    left = list(board.nodes)
    for rule in NODE_RULES:
        fitting = [node for node in left if any(fnmatchcase(node, pattern) for pattern in rule.patterns)]
        left = [node for node in left if node not in fitting]
        if fitting:
            yield rule, fitting
