"""Packs bytes as .xz, block by block: large pieces on two threads, each once, and kept for the next build.

Python's lzma makes one block on one thread, minutes for two archives of a bundle. The container is
that of https://tukaani.org/xz/xz-file-format.txt, with CRC32 as its check.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from edgert.disk import replace_file

THREADS = 2
PIECE_BYTES = 8 << 20  # a block's, and the dictionary's: a longer block would pack hardly better
KEPT_BYTES = 256 << 10  # what is smaller is packed together with its neighbours, and anew each time

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": PIECE_BYTES}]
_DICTIONARY = 22  # how the format writes 8 MiB
_FLAGS = b"\0\1"  # the check is CRC32
_MAGIC, _END = b"\xfd7zXZ\0", b"YZ"
_HASH_BYTES = 32


class _Block(NamedTuple):
    packed: bytes
    plain_bytes: int
    check: int


class Packer:
    """Packs archives; what several of them hold is packed once."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._writing = Lock()  # two equal pieces may be packed at once

    def pack(self, parts: Iterable[bytes]) -> bytes:
        """Return the parts, one after the other, as one .xz stream. Blocks for about a minute for 100 MB."""
        self._kept.mkdir(parents=True, exist_ok=True)
        threads = ThreadPoolExecutor(THREADS)
        try:
            return _stream(threads.map(self._block, _pieces(parts)))
        finally:
            threads.shutdown(cancel_futures=True)

    def _block(self, piece: bytes) -> _Block:
        file = self._kept / hashlib.sha256(piece).hexdigest()
        packed = _read_kept(file)
        if packed is None:
            packed = lzma.compress(piece, lzma.FORMAT_RAW, filters=_FILTERS)
            if len(piece) >= KEPT_BYTES:
                with self._writing:
                    replace_file(file, hashlib.sha256(packed).digest() + packed)
        return _Block(packed, len(piece), crc32(piece))


def _read_kept(file: Path) -> bytes | None:
    """Return what was packed before; None if it was not, or is not as it was written."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    packed = data[_HASH_BYTES:]
    return packed if hashlib.sha256(packed).digest() == data[:_HASH_BYTES] else None


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what becomes a block each: a large part's pieces, and what small parts lie between."""
    small = bytearray()
    for part in parts:
        if len(part) >= KEPT_BYTES:
            yield from _cut(bytes(small))
            small.clear()
            yield from _cut(part)
        else:
            small += part
    yield from _cut(bytes(small))


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))


def _stream(blocks: Iterable[_Block]) -> bytes:
    header = _padded(struct.pack("<BBBBB", 2, 0, 0x21, 1, _DICTIONARY))
    header += struct.pack("<I", crc32(header))
    stream = bytearray(_MAGIC + _FLAGS + struct.pack("<I", crc32(_FLAGS)))
    records = []
    for block in blocks:
        stream += header + _padded(block.packed) + struct.pack("<I", block.check)
        records.append((len(header) + len(block.packed) + 4, block.plain_bytes))
    index = _padded(b"\0" + _number(len(records)) + b"".join(map(_number, sum(records, ()))))
    index += struct.pack("<I", crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + _FLAGS
    return bytes(stream + index + struct.pack("<I", crc32(footer)) + footer + _END)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _number(value: int) -> bytes:
    """Return a number in groups of 7 bits, the lowest first; a set high bit says that more follow."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _number(rest)
