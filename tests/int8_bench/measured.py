"""A quantization as a process of its own: how long it took, and how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgert.prepare.options import PrepareOptions

LAUNCH = Path(__file__).with_name("launch.py")
TIMEOUT_S = 3600.0


class QuantizationError(Exception):
    """A quantizer failed. The message is the last line it said."""


class Task(NamedTuple):
    """All that a quantizer gets. What is held out stays in the bench."""

    name: str  # fashion, classify or coco
    model: Path  # FP32; a copy for this quantizer alone, as some write beside or into it
    prepare: PrepareOptions
    pictures: Path  # a folder of PNG, in order of their names
    tensors: Path  # .npy: the same pictures, prepared, (frames, channels, height, width) float32
    frames: int


class Measured(NamedTuple):
    """A quantized model and what it took to make it. The whole process counts, its imports too."""

    model: Path
    frames: int
    wall_s: float
    peak_rss_bytes: int
    call_s: float | None = None  # the quantizing call alone, where the quantizer tells it


Quantize = Callable[[Task, Path], Measured]


def run_measured(command: Sequence[str], out: Path, frames: int) -> Measured:
    """Run a command that writes the model `out`; its log and its temporary files go beside it.

    A last line `call_s=<seconds>` on stdout is the time of the call alone. Blocks up to TIMEOUT_S.

    Raises:
        QuantizationError: it failed, or wrote no model.
    """
    report, log = out.with_suffix(".run.json"), out.with_suffix(".log")
    with log.open("w") as sink:
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(report), *command]
        environment = {**os.environ, "TMPDIR": str(out.parent)}
        subprocess.run(launch, stdout=sink, stderr=sink, env=environment, timeout=TIMEOUT_S)
    said = log.read_text(errors="replace").strip().splitlines() or ["no message"]
    told = json.loads(report.read_text())
    if told["status"] or not out.exists():
        raise QuantizationError(f"status {told['status']}: {said[-1]}")
    calls = [float(line.partition("=")[2]) for line in said if line.startswith("call_s=")]
    return Measured(out, frames, told["wall_s"], told["peak_rss_bytes"], calls[-1] if calls else None)
