"""Puts pycuda into a bundle: compiled where the board's root file system is at hand, else as its source."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

from cross.distribution import Distribution, read_distribution
from cross.layout import PYCUDA, Content, Tree
from cross.lock import Pin, sha256_of
from cross.pycuda import provide
from cross.pycuda_compile import VERSION
from cross.target import Target
from cross.wheels import unpack


class Provided(NamedTuple):
    """pycuda as it goes into the bundle. A source has a tree of its own; a wheel is in the site folder."""

    part: Distribution
    source: Tree


def add_pycuda(
    target: Target, sysroot: Path | None, folder: Path, cache: Path, *, offline: bool
) -> Provided | None:
    """Provide pycuda if the target asks for it, or a root file system was given. Raises EdgertError."""
    if sysroot is None and not target.bundle.builds_pycuda:
        return None
    files = provide(target, sysroot, folder / "pycuda", cache=cache, offline=offline)
    if files[0].suffix == ".whl":
        unpack(files[0], folder / "site")
        return Provided(read_distribution(files[0], Pin(sha256_of(files[0]), files[0].name)), {})
    return Provided(_read_source(files[0]), {PYCUDA / file.name: Content(file=file) for file in files})


def _read_source(sdist: Path) -> Distribution:
    with tarfile.open(sdist) as opened:
        member = opened.extractfile(f"pycuda-{VERSION}/LICENSE")
        text = b"" if member is None else member.read()
    return Distribution(
        pin=Pin(sha256_of(sdist), sdist.name),
        name="pycuda",
        version=VERSION,
        licence="MIT",
        modules=frozenset(),
        licence_texts={"LICENSE": text},
    )
