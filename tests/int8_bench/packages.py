"""Debian packages with pictures and a clip, fetched once into the cache; nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from edgert.demo.fetch import FetchError
from edgert.demo.material import default_cache

TIMEOUT_S = 600.0


class DebianPackage(NamedTuple):
    """A package, the folder that is wanted of it, and a file that must be in that folder."""

    name: str
    folder: str
    proof: str


OPENCV = DebianPackage("opencv-doc", "usr/share/doc/opencv-doc/examples", "data/vtest.avi")
FASHION = DebianPackage(
    "dataset-fashion-mnist", "usr/share/datasets/fashion-mnist", "train-images-idx3-ubyte.gz"
)


def bench_cache() -> Path:
    """Return the folder that keeps what the bench fetched and trained, beside the demo's."""
    return default_cache().parent / "bench"


def package_folder(package: DebianPackage, cache: Path) -> Path:
    """Return the wanted folder of a package, fetched with apt if the cache lacks it.

    Raises:
        FetchError: apt or dpkg is missing or failed, or the package holds something else.
    """
    place = cache / package.name
    if (place / package.proof).exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package.name}-", dir=cache) as name:
        work = Path(name)
        work.chmod(0o755)  # apt downloads as a user of its own
        print(f"Fetching Debian package {package.name}", flush=True)
        _run(["apt-get", "-q", "download", package.name], work, package)
        archive = next(work.glob("*.deb"))
        _run(["dpkg", "-x", archive.name, "content"], work, package)
        _take(work / "content" / package.folder, place, package)
    return place


def _take(source: Path, place: Path, package: DebianPackage) -> None:
    if not (source / package.proof).exists():
        raise FetchError(f"Debian package {package.name} holds no {package.folder}/{package.proof}.")
    shutil.rmtree(place, ignore_errors=True)
    source.rename(place)


def _run(command: list[str], folder: Path, package: DebianPackage) -> None:
    by_hand = (
        f"Put {package.folder} of Debian package {package.name} into {bench_cache() / package.name} by hand."
    )
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise FetchError(f"{command[0]} is not there; the bench needs a Debian system. {by_hand}") from error
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{' '.join(command)} did not end in {TIMEOUT_S:.0f} s. {by_hand}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"{' '.join(command)} failed: {said}. Run apt-get update as root, or: {by_hand}")
