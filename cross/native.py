"""Checks every native file of a bundle against its target: architecture, libraries, versions of symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cross.elf import Elf, Numbers, is_elf, numbers, read_elf
from cross.errors import BundleError
from cross.target import Target

# Of SYSTEM_PACKAGES, which the package depends on.
SYSTEM_LIBRARIES = frozenset(
    (
        *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
        *("libgcc_s.so.1", "libstdc++.so.6", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"),
        "libz.so.1",
    )
)
SYSTEM_PACKAGES = ("libgcc-s1", "libstdc++6", "zlib1g")


class Highest(NamedTuple):
    """What the native files of a bundle ask for at most."""

    files: int
    glibc: str
    glibcxx: str


def check_natives(site: Path, target: Target) -> Highest:
    """Check each native file below `site`. Raises BundleError, which names every file that does not fit."""
    files = {file: read_elf(file) for file in sorted(site.rglob("*")) if _is_native(file)}
    carried = {file.name for file in files} | {elf.soname for elf in files.values()}
    known = carried | SYSTEM_LIBRARIES | set(target.board.libraries)
    problems = [
        f"{file.relative_to(site)} {problem}"
        for file, elf in files.items()
        for problem in _problems(elf, target, known)
    ]
    if problems:
        raise BundleError(f"Native files do not fit {target.name}:\n  " + "\n  ".join(problems))
    return Highest(len(files), _highest(files.values(), "GLIBC"), _highest(files.values(), "GLIBCXX"))


def _is_native(file: Path) -> bool:
    return (
        file.is_file() and not file.is_symlink() and file.suffix not in (".cubin", ".fatbin") and is_elf(file)
    )


def _problems(elf: Elf, target: Target, known: set[str]) -> Iterator[str]:
    if elf.architecture != target.architecture:
        yield f"is for {elf.architecture}, not {target.architecture}"
        return
    for library, limit in (("GLIBC", target.glibc), ("GLIBCXX", target.glibcxx)):
        highest = elf.highest(library)
        if highest > numbers(limit):
            yield f"needs {library}_{_text(highest)}; the target has {limit}"
    missing = sorted(set(elf.needed) - known)
    if missing:
        yield f"needs {', '.join(missing)}, which neither the bundle nor the target has"


def _highest(elves: Iterable[Elf], library: str) -> str:
    return _text(max((elf.highest(library) for elf in elves), default=()))


def _text(version: Numbers) -> str:
    return ".".join(map(str, version))
