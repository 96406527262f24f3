"""Who else quantizes, with which settings, on how many frames."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.int8_bench.measured import Measured, Quantize, Task, run_measured

HERE = Path(__file__).parent
ENTROPY_FRAMES = 40  # onnxruntime keeps every activation of every frame: 62 to 125 MB each
CHECK_TIMEOUT_S = 60.0
_VERSION = "from importlib.metadata import version; print(version('nvidia-modelopt'))"


class Candidate(NamedTuple):
    """A quantizer in the table. `max_frames` bounds one whose memory grows with the frames."""

    title: str
    family: str
    quantize: Quantize
    max_frames: int | None = None


def onnxruntime_peers() -> list[Candidate]:
    """Return onnxruntime's quantizer with its defaults, and with settings for TensorRT."""
    family = "onnxruntime"
    return [
        Candidate("onnxruntime, defaults", family, partial(_onnxruntime, "default", "minmax")),
        Candidate("onnxruntime, for TensorRT, minmax", family, partial(_onnxruntime, "tensorrt", "minmax")),
        Candidate(
            "onnxruntime, for TensorRT, entropy",
            family,
            partial(_onnxruntime, "tensorrt", "entropy"),
            ENTROPY_FRAMES,
        ),
    ]


def modelopt_peers(python: str) -> list[Candidate]:
    """Return modelopt's quantizer, run by the interpreter `python`, with both of its methods."""
    return [
        Candidate(f"modelopt, {method}", "modelopt", partial(_modelopt, python, method))
        for method in ("max", "entropy")
    ]


def modelopt_version(python: str | None) -> str:
    """Return the version of modelopt that this interpreter has, or an empty string."""
    if not python:
        return ""
    try:
        done = subprocess.run(
            [python, "-c", _VERSION], capture_output=True, text=True, timeout=CHECK_TIMEOUT_S
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _onnxruntime(settings: str, method: str, task: Task, out: Path) -> Measured:
    worker = [sys.executable, str(HERE / "onnxruntime_worker.py"), settings, method]
    return _run(worker, task, out)


def _modelopt(python: str, method: str, task: Task, out: Path) -> Measured:
    return _run([python, str(HERE / "modelopt_worker.py"), method], task, out)


def _run(worker: list[str], task: Task, out: Path) -> Measured:
    arguments = [str(task.model), str(task.tensors), str(task.frames), str(out)]
    return run_measured([*worker, *arguments], out, task.frames)
