"""Archives whose bytes follow from their content alone: order, owners, modes and times are fixed."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from cross.layout import Tree


def tar(tree: Tree, prefix: str, epoch_s: int) -> Iterator[bytes]:
    """Yield the tree below `prefix` as an archive; every folder on the way has an entry.

    Raises:
        OSError: a file of the tree cannot be read.
    """
    size = 0
    for block in _entries(tree, prefix, epoch_s):
        size += len(block)
        yield block
    yield bytes(-size % tarfile.RECORDSIZE)


def _entries(tree: Tree, prefix: str, epoch_s: int) -> Iterator[bytes]:
    seen: set[Path] = set()
    for path in sorted(tree, key=lambda path: path.parts):
        for folder in [*reversed(path.parents)][1:]:
            if folder not in seen:
                seen.add(folder)
                yield _header(f"{prefix}{folder}/", tarfile.DIRTYPE, 0o755, epoch_s)
        content = tree[path]
        if content.link:
            yield _header(f"{prefix}{path}", tarfile.SYMTYPE, 0o777, epoch_s, link=content.link)
            continue
        mode = 0o755 if content.is_program else 0o644
        data = content.read()
        yield _header(f"{prefix}{path}", tarfile.REGTYPE, mode, epoch_s, size=len(data))
        yield data
        yield bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, epoch_s: int, *, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, epoch_s, size, link
    info.uname = info.gname = "root"
    return info.tobuf(tarfile.GNU_FORMAT)
