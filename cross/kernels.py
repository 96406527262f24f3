"""Gives the images of the preparation kernel for a target; what is up to date is not compiled again."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from cross import compile_kernels
from cross.errors import CrossError
from cross.lock import TOOLS, lock_file, read_lock
from cross.own_wheel import HOST_PLATFORMS, HOST_PYTHON, NVRTC_DISTRIBUTION
from cross.progress import say
from cross.wheels import fetch
from edgert.disk import replace_file

IN_SITE = Path("edgert", "prepare", "cuda")


def provide_kernels(names: tuple[str, ...], site: Path, cache: Path, *, offline: bool) -> None:
    """Lay the images named into `site`, and no others. Raises CrossError."""
    for image in (site / IN_SITE).glob("kernels-*"):
        image.unlink()
    for name in names:
        shutil.copyfile(_image(name, cache, offline=offline), site / IN_SITE / name)


def _image(name: str, cache: Path, *, offline: bool) -> Path:
    stamp = compile_kernels.stamp()
    kept = cache / "kernels" / f"{stamp}-{name}"
    for file in (compile_kernels.SOURCES / name, kept):
        if file.is_file() and stamp.encode() in file.read_bytes():
            return file
    say(f"compile {name}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace_file(kept, _compiler(name, cache, offline=offline)())
    except compile_kernels.CompileError as error:
        raise CrossError(f"{name}: {error}") from error
    return kept


def _compiler(name: str, cache: Path, *, offline: bool) -> Callable[[], bytes]:
    if name == compile_kernels.FATBIN:
        return lambda: compile_kernels.compile_fatbin("nvcc")
    return lambda: compile_kernels.compile_cubin(provide_nvrtc(cache, offline=offline))


def provide_nvrtc(cache: Path, *, offline: bool) -> Path:
    """Return NVRTC 12.6, unpacked in the cache from its wheel. Raises CrossError, BundleError."""
    pins = [pin for pin in read_lock(lock_file(TOOLS)) if pin.distribution == NVRTC_DISTRIBUTION]
    (wheel,) = fetch(pins, HOST_PLATFORMS, HOST_PYTHON, cache, offline=offline)
    folder = cache / f"nvrtc-{pins[0].version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".nvrtc-") as part:
            with zipfile.ZipFile(wheel) as opened:
                opened.extractall(part)
            Path(part, "nvidia").rename(folder)
    return folder / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"
