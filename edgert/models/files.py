"""Opens what a model's folder holds: nothing beyond the folder, nothing without a bound."""

from __future__ import annotations

import os
from pathlib import Path

from edgert.errors import ModelError


def confined(folder: Path, name: str, model_folder: Path, what: str) -> Path:
    """Return `folder/name`, which need not exist.

    `what` says in a message who asks, e.g. `config.pbtxt: field default_model_filename`.

    Raises:
        ModelError: it is outside `model_folder`, or a link leads out of the store.
    """
    path = Path(os.path.normpath(folder / name))
    if not name or "\0" in name or not path.is_relative_to(os.path.normpath(model_folder)):
        raise ModelError(f"{what} = {name!r}: expected a file inside {model_folder}")
    store = os.path.realpath(model_folder.parent)
    if not Path(os.path.realpath(folder / name)).is_relative_to(store):
        raise ModelError(
            f"{what} = {name!r}: a link leads to {os.path.realpath(path)}, outside the store {store}"
        )
    return path


def list_folder(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted. Raises ModelError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror}") from error


def is_file(path: Path) -> bool:
    """Tell whether a regular file stands there; a name that the file system refuses is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_size(path: Path, size_bytes: int, max_bytes: int) -> None:
    """Raise ModelError if a file has more than `max_bytes`."""
    if size_bytes > max_bytes:
        raise ModelError(f"{path}: has {size_bytes} bytes or more, expected at most {max_bytes}")


def read_text(path: Path, max_bytes: int) -> str:
    """Return a file's text, UTF-8 with or without a byte order mark. Raises ModelError."""
    if not is_file(path):
        raise ModelError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        check_size(path, len(content), max_bytes)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelError(f"{path}:{line}: not text in UTF-8: {error.reason}") from None
