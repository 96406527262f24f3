"""Facts about the board, read without opening its GPU."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import msgspec

_MODEL = Path("/proc/device-tree/model")
_L4T = Path("/etc/nv_tegra_release")
_DRIVER = Path("/proc/driver/nvidia/version")


def board_facts() -> dict[str, str]:
    """Return model, L4T release and NVIDIA driver, as far as this machine has them."""
    facts = {"model": _read(_MODEL) or "not a Jetson or DRIVE board (no device tree)"}
    release = re.search(r"R(\d+).*REVISION: ([\d.]+)", _read(_L4T))
    if release:
        facts["L4T"] = f"{release[1]}.{release[2]}"
    driver = re.search(r"(?:Module|Kernel Module)[^\d]*([\d.]+)", _read(_DRIVER))
    if driver:
        facts["NVIDIA driver"] = driver[1]
    facts["CUDA driver"] = cuda_driver_state()
    return facts


class CudaDriverProbe(msgspec.Struct, frozen=True):
    """What the CUDA driver answered."""

    version: tuple[int, int] | None  # the newest CUDA that it supports; None: it cannot be used
    problem: str = ""  # why not


def probe_cuda_driver() -> CudaDriverProbe:
    """Ask the CUDA driver whether it works. It takes no context and no memory on the GPU.

    Asked through the C library, because TensorRT crashes the process where the driver is absent.
    """
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return CudaDriverProbe(None, "none (libcuda.so.1 is not there)")
    if status := library.cuInit(0):
        return CudaDriverProbe(None, f"unusable (cuInit returned {status})")
    version = ctypes.c_int()
    if status := library.cuDriverGetVersion(ctypes.byref(version)):
        return CudaDriverProbe(None, f"error {status}")
    return CudaDriverProbe((version.value // 1000, version.value % 1000 // 10))


def cuda_driver_state() -> str:
    """Return the CUDA version that the driver supports, or why there is none."""
    probe = probe_cuda_driver()
    return ".".join(map(str, probe.version)) if probe.version else probe.problem


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""
