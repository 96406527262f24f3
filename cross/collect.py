"""Collects what a bundle holds: wheels without what nothing reads, kernels, checked native files, texts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cross.distribution import Distribution, read_distribution
from cross.documents import checksums, documents
from cross.kernels import provide_kernels
from cross.layout import DOCUMENTS, LAUNCH, LAUNCHER, SITE, Content, Tree
from cross.lock import LOCKS, Pin, canonical_name, lock_file, read_lock, sha256_of
from cross.native import check_natives
from cross.own_wheel import CHECKOUT, build_wheel
from cross.progress import say
from cross.prune import prune
from cross.target import Target
from cross.wheels import fetch, unpack
from cross.with_pycuda import add_pycuda
from edgert import __version__

HEADERS = ("numpy/core/include/*", "numpy/_core/include/*")  # for pycuda, where the board compiles it


class Where(NamedTuple):
    """Folders of a build, and what is there already."""

    dist: Path
    cache: Path
    sysroot: Path | None = None
    offline: bool = False
    wheel: Path | None = None
    """Edgert's own, which else is built from the checkout."""
    locks: Path = LOCKS


def collect(target: Target, where: Where, folder: Path, epoch_s: int) -> Tree:
    """Return the tree of a bundle, its files in `folder`. Raises EdgertError, OSError."""
    site = folder / "site"
    distributions = _unpack_wheels(target, where, folder, epoch_s)
    pycuda = add_pycuda(target, where.sysroot, folder, where.cache, offline=where.offline)
    provide_kernels(target.bundle.kernels, site, where.cache, offline=where.offline)
    removed = prune(site, HEADERS if pycuda and pycuda.source else ())
    carried = [part for part in distributions if any((site / name).exists() for name in part.modules)]
    for part in distributions:
        if part not in carried:
            _forget(part, site)
    if pycuda is not None:
        carried.append(pycuda.part)
    highest = check_natives(site, target)
    say(
        f"{removed / 1e6:.1f} MB left out as nothing reads it; {highest.files} native files need at most "
        f"glibc {highest.glibc} and GLIBCXX {highest.glibcxx}"
    )
    tree: Tree = {
        **_programs(target),
        **_files(site),
        **(pycuda.source if pycuda else {}),
        **documents(target, __version__, carried, CHECKOUT / "pipelines", epoch_s),
    }
    tree[DOCUMENTS / "SHA256SUMS"] = Content(checksums(tree))
    return tree


def _unpack_wheels(target: Target, where: Where, folder: Path, epoch_s: int) -> list[Distribution]:
    pins = read_lock(lock_file(target.name, where.locks))
    for pin in pins:
        pin.check_tags(target)
    wheels = fetch(pins, target.platforms, target.python, where.cache, offline=where.offline)
    own = where.wheel
    if own is None:
        say("build edgert's wheel")
        own = build_wheel(folder, where.cache, epoch_s, offline=where.offline)
    pins.append(Pin(sha256_of(own), own.name))
    say(f"unpack {len(pins)} wheels")
    for wheel in (*wheels, own):
        unpack(wheel, folder / "site")
    return [read_distribution(wheel, pin) for wheel, pin in zip((*wheels, own), pins, strict=True)]


def _forget(part: Distribution, site: Path) -> None:
    """Remove the description of a distribution of which nothing is left."""
    say(f"{part.name} {part.version}: no module imports it, left out")
    for file in site.glob("*.dist-info/METADATA"):
        if canonical_name(file.parent.name.partition("-")[0]) == part.name:
            file.unlink()
            file.parent.rmdir()


def _programs(target: Target) -> Tree:
    launcher = LAUNCHER.format(python=target.python, version=target.python.replace(".", ", "))
    return {
        Path("bin", "edgert"): Content(launcher.encode(), is_program=True),
        SITE.with_name("launch.py"): Content(LAUNCH.encode()),
    }


def _files(site: Path) -> Tree:
    files = (file for file in site.rglob("*") if file.is_file())
    return {SITE / file.relative_to(site): Content(file=file) for file in files}
