"""Builds edgert's own wheel from the checkout, with the build tools of the lock and nothing installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cross.errors import CrossError
from cross.lock import TOOLS, lock_file, read_lock
from cross.wheels import fetch, unpack

CHECKOUT = Path(__file__).resolve().parent.parent
NVRTC_DISTRIBUTION = "nvidia-cuda-nvrtc-cu12"
HOST_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)), "manylinux2014_x86_64")
HOST_PYTHON = "3.10"


def build_wheel(folder: Path, cache: Path, epoch_s: int, *, offline: bool) -> Path:
    """Build the wheel of the checkout into `folder` and return its file. Raises CrossError."""
    tools = [pin for pin in read_lock(lock_file(TOOLS)) if pin.distribution != NVRTC_DISTRIBUTION]
    wheels = fetch(tools, HOST_PLATFORMS, HOST_PYTHON, cache, offline=offline)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tools-") as site:
        for wheel in wheels:
            unpack(wheel, Path(site))
        _run_hatchling(Path(site), folder, epoch_s)
    built = list(folder.glob("edgert-*.whl"))
    if len(built) != 1:
        raise CrossError(f"hatchling made {len(built)} wheels of edgert; expected one.")
    return built[0]


def _run_hatchling(site: Path, folder: Path, epoch_s: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "SOURCE_DATE_EPOCH": str(epoch_s)}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CrossError(f"edgert's wheel cannot be built:\n{done.stdout}{done.stderr}".rstrip())
