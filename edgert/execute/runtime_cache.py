"""What TensorRT-RTX compiled for this GPU, kept on disk, so that the next start need not compile it again."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class RuntimeCacheFile:
    """One engine's compiled kernels. Losing it costs time only, so nothing here raises."""

    def __init__(self, engine_file: Path) -> None:
        stat = engine_file.stat()
        parts = (engine_file.parent.parent.name, engine_file.parent.name, stat.st_size, stat.st_mtime_ns)
        name = "-".join(map(str, parts))
        self._path = cache_folder() / "runtime" / f"{name}.cache"

    def read(self) -> bytes:
        """Return what was kept; empty if nothing was."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    def write(self, content: bytes) -> None:
        """Keep the content; whole or not at all."""
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(self._path)
        except OSError as error:
            log.info("the runtime cache cannot be kept in %s: %s", self._path.parent, error)
            with suppress(OSError):  # what stood in the way of writing stands in the way of this
                partial.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return $EDGERT_CACHE, else systemd's $CACHE_DIRECTORY, else `edgert` of $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("EDGERT_CACHE") or os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "edgert"  # noqa: PTH111 - without a home it stays as it is
