"""A first line by which a file is known again as ours, and as not edited since."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

State = Literal["new", "unchanged", "changed", "edited"]

_STAMP = re.compile(rb"# Written by edgert systemd install \(sha256 ([0-9a-f]{64})\).*\n")


def stamped(text: str) -> bytes:
    """Return a file's content with its stamp in front."""
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    return f"# Written by edgert systemd install (sha256 {digest}); edited, it is kept.\n".encode() + content


def without_stamp(content: bytes) -> bytes:
    """Return what stands below the stamp."""
    return _STAMP.sub(b"", content, count=1)


def is_ours(path: Path) -> bool:
    """Say whether we have written the file, and nobody has touched it since. Raises OSError."""
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    stamp = _STAMP.match(content)
    return stamp is not None and hashlib.sha256(content[stamp.end() :]).hexdigest().encode() == stamp[1]


def state_of(path: Path, wanted: bytes) -> State:
    """Say what writing `wanted` there would mean. Raises OSError."""
    if not path.is_symlink() and not path.exists():
        return "new"
    if not is_ours(path):
        return "edited"
    return "unchanged" if path.read_bytes() == wanted else "changed"
