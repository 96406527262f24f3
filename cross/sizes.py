"""Says how large bundles are, from the bundles themselves."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from cross.deb import package_version
from cross.errors import BundleError
from cross.target import target_names
from edgert.errors import ConfigError


class Sizes(NamedTuple):
    """Of one target's bundle, in bytes."""

    target: str
    archive_bytes: int
    package_bytes: int
    installed_bytes: int
    files: int


def print_sizes(dist: Path, targets: Collection[str] = ()) -> None:
    """Print a table of the bundles in `dist`. Raises ConfigError, BundleError, OSError."""
    rows = [sizes_of(dist, name) for name in targets or target_names() if list(_bundles(dist, name))]
    if not rows:
        raise ConfigError(f"{dist}: there is no bundle. Build one: edgert cross build TARGET")
    print(f"{'target':<17} {'archive':>10} {'package':>10} {'installed':>10} {'files':>7}")
    for row in rows:
        megabytes = (f"{size / 1e6:>7.1f} MB" for size in row[1:4])
        print(f"{row.target:<17} {' '.join(megabytes)} {row.files:>7}")


def sizes_of(dist: Path, target: str) -> Sizes:
    """Measure the newest bundle of a target. Raises BundleError, OSError."""
    package = max(_bundles(dist, target), key=lambda file: file.stat().st_mtime)
    archive = next(dist.glob(f"edgert-{package.name.split('_')[1].partition('+')[0]}-{target}.tar.xz"))
    with _open_member(package, "data.tar.xz") as data:
        sizes = [entry.size for entry in data if entry.isfile()]
    return Sizes(target, archive.stat().st_size, package.stat().st_size, sum(sizes), len(sizes))


def _bundles(dist: Path, target: str) -> list[Path]:
    return [*dist.glob(f"edgert_{package_version('*', target)}_*.deb")]


def _open_member(package: Path, name: str) -> tarfile.TarFile:
    """Open an archive within a Debian package."""
    data, at = package.read_bytes(), 8
    while at < len(data):
        header = data[at : at + 60]
        size = int(header[48:58])
        if header[:16].decode().strip() == name:
            return tarfile.open(fileobj=io.BytesIO(lzma.decompress(data[at + 60 : at + 60 + size])))
        at += 60 + size + size % 2
    raise BundleError(f"{package} has no {name}.")
