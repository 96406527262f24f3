"""Reads what a 64-bit little-endian ELF file needs from the machine that loads it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cross.errors import BundleError

MACHINES = {62: "x86_64", 183: "aarch64"}
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _SONAME = 1, 5, 14
_VERSIONS_NEEDED, _VERSIONS_NEEDED_COUNT = 0x6FFFFFFE, 0x6FFFFFFF
_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI|GCC)_(\d+(?:\.\d+)*)")

Numbers = tuple[int, ...]


class Elf(NamedTuple):
    """What one native file is and needs."""

    architecture: str
    soname: str
    needed: tuple[str, ...]
    versions: tuple[str, ...]
    """Versions of symbols: `GLIBC_2.17`."""

    def highest(self, library: str) -> Numbers:
        """Return the highest version of a library's symbols, (2, 17); () if it uses none of it."""
        matches = (_VERSION.fullmatch(version) for version in self.versions)
        return max((numbers(match[2]) for match in matches if match and match[1] == library), default=())


def numbers(version: str) -> Numbers:
    """Return `2.17` as numbers, which can be compared."""
    return tuple(map(int, version.split(".")))


def is_elf(file: Path) -> bool:
    """Say whether a file begins as ELF files do. Raises OSError."""
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def read_elf(file: Path) -> Elf:
    """Read a native file. Raises BundleError, which names it; OSError."""
    try:
        return _Reader(file.read_bytes()).read()
    except (struct.error, ValueError, IndexError) as error:
        raise BundleError(f"{file}: cannot be read as a native file: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        if data[4:6] != b"\x02\x01":
            raise ValueError("it is not 64-bit little-endian")
        self._segments = list(self._read_segments())
        self._dynamic = list(self._read_dynamic())
        self._strings_at = next((self._offset(value) for tag, value in self._dynamic if tag == _STRINGS), 0)

    def read(self) -> Elf:
        (machine,) = struct.unpack_from("<H", self._data, 18)
        named = {
            tag: [self._text(value) for key, value in self._dynamic if key == tag]
            for tag in (_NEEDED, _SONAME)
        }
        return Elf(
            MACHINES.get(machine, f"machine {machine}"),
            "".join(named[_SONAME][:1]),
            tuple(named[_NEEDED]),
            tuple(self._versions()),
        )

    def _read_segments(self) -> Iterator[Numbers]:
        """Yield kind, offset, address and bytes of each program header."""
        (at,) = struct.unpack_from("<Q", self._data, 32)
        entry_bytes, count = struct.unpack_from("<HH", self._data, 54)
        for index in range(count):
            kind, _, offset, address, _, size = struct.unpack_from(
                "<IIQQQQ", self._data, at + index * entry_bytes
            )
            yield kind, offset, address, size

    def _read_dynamic(self) -> Iterator[tuple[int, int]]:
        for kind, offset, _, size in self._segments:
            if kind != _DYNAMIC:
                continue
            for at in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<QQ", self._data, at)
                if not tag:
                    return
                yield tag, value

    def _offset(self, address: int) -> int:
        for kind, offset, start, size in self._segments:
            if kind == _LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError(f"address {address:#x} is in no segment")

    def _text(self, at: int) -> str:
        start = self._strings_at + at
        return self._data[start : self._data.index(b"\0", start)].decode()

    def _versions(self) -> Iterator[str]:
        """Yield the versions of .gnu.version_r: a chain of libraries, each with a chain of versions."""
        tags = dict(self._dynamic)
        if _VERSIONS_NEEDED not in tags:
            return
        at = self._offset(tags[_VERSIONS_NEEDED])
        for _ in range(tags[_VERSIONS_NEEDED_COUNT]):
            _, count, _, first, following = struct.unpack_from("<HHIII", self._data, at)
            entry = at + first
            for _ in range(count):
                _, _, _, name, next_entry = struct.unpack_from("<IHHII", self._data, entry)
                yield self._text(name)
                entry += next_entry
            at += following
