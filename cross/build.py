"""Builds a target's bundle: an archive, a Debian package and their checksums; all of them or none."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cross.collect import Where, collect
from cross.deb import make_deb, package_version
from cross.errors import CrossError
from cross.layout import Tree
from cross.own_wheel import CHECKOUT
from cross.progress import say
from cross.tar import tar
from cross.target import Target
from cross.xz import Packer
from edgert import __version__
from edgert.errors import ConfigError

PART = ".cross-"
NAMED = 5
SHIPPED = ("edgert", "systemd", "pipelines", "cross")  # what a bundle's bytes depend on


def build(target: Target, where: Where) -> list[Path]:
    """Build the bundle of a target and return its files. Raises EdgertError, OSError."""
    if target.no_bundle:
        raise ConfigError(f"{target.name} has no bundle. {target.no_bundle}")
    epoch_s = commit_time_s()
    if where.wheel is None and (changed := uncommitted()):
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        say(f"not as committed, and in the bundle as they are: {', '.join(changed[:NAMED])}{more}")
    with _part_folder(where.dist) as folder:
        tree = collect(target, where, folder, epoch_s)
        say(f"pack {sum(content.size for content in tree.values()) / 1e6:.1f} MB")
        packer = Packer(where.cache / "packed")
        names = bundle_names(target)
        for name, data in zip(names, _pack(tree, target, epoch_s, packer), strict=False):
            (folder / name).write_bytes(data)
        sums = "".join(
            f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names[:2]
        )
        (folder / names[2]).write_text(sums)
        return [(folder / name).replace(where.dist / name) for name in names]


def bundle_names(target: Target) -> tuple[str, str, str]:
    """Return the names of the archive, the package and the checksums."""
    name = f"edgert-{__version__}-{target.name}"
    package = f"edgert_{package_version(__version__, target.name)}_{target.debian_architecture}.deb"
    return f"{name}.tar.xz", package, f"{name}.sha256"


def _pack(tree: Tree, target: Target, epoch_s: int, packer: Packer) -> Iterator[bytes]:
    """Yield the archive and the package."""
    yield packer.pack(tar(tree, f"edgert-{__version__}-{target.name}/", epoch_s))
    yield make_deb(tree, CHECKOUT / "systemd", target, __version__, epoch_s, packer)


@contextmanager
def _part_folder(dist: Path) -> Iterator[Path]:
    """Yield a folder beside the bundles, on the same disk, and remove it; also what a killed build left."""
    dist.mkdir(parents=True, exist_ok=True)
    for left in dist.glob(f"{PART}*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=dist, prefix=f"{PART}{os.getpid()}-") as folder:
        yield Path(folder)


def commit_time_s() -> int:
    """Return what files get as their time: SOURCE_DATE_EPOCH, or the last commit's. Raises EdgertError."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not given.isdecimal():
            raise ConfigError(f"SOURCE_DATE_EPOCH = {given!r}: expected seconds since 1970")
        return int(given)
    if said := _git("log", "-1", "--format=%ct"):
        return int(said)
    raise CrossError(f"{CHECKOUT} is no git checkout; set SOURCE_DATE_EPOCH to the time of its sources.")


def uncommitted() -> list[str]:
    """Return the files of a bundle that are not as the last commit has them; none where there is no git."""
    lines = _git("status", "--porcelain", "--", *SHIPPED).splitlines()
    return [line[3:] for line in lines]


def _git(*arguments: str) -> str:
    """Return what git says of the checkout; nothing if it fails or is missing."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
