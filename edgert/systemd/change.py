"""Changes several files of a machine: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgert.disk import replace_file, sync_folder, write_file
from edgert.errors import ConfigError

_MODE = 0o644


def replace_files(contents: Mapping[Path, bytes], gone: Iterable[Path] = ()) -> None:
    """Write files, with the folders that they need, and remove others.

    Raises:
        ConfigError: something cannot be written; then everything is as it was before.
    """
    with _told_of_refusals(), ExitStack() as undo:
        drafts = {path: _draft(path, content, undo) for path, content in contents.items()}
        for path, draft in drafts.items():
            undo.callback(_put_back, path, _content(path))
            draft.replace(path)
        for path in gone:
            undo.callback(_put_back, path, _content(path))
            path.unlink()
        for folder in {path.parent for path in (*contents, *gone)}:
            sync_folder(folder)
        undo.pop_all()


def remove_empty_folders(folders: Iterable[Path]) -> None:
    """Remove those of the folders that hold nothing."""
    for folder in sorted(set(folders), reverse=True):
        with suppress(OSError):  # it holds something, or is not there
            folder.rmdir()


def _draft(path: Path, content: bytes, undo: ExitStack) -> Path:
    """Write the content beside its place, where systemd does not look."""
    _make_folders(path.parent, undo)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    undo.callback(draft.unlink, missing_ok=True)
    write_file(draft, content)
    draft.chmod(_MODE)
    return draft


def _make_folders(folder: Path, undo: ExitStack) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir()
        undo.callback(remove_empty_folders, [place])
        place.chmod(0o755)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _put_back(path: Path, content: bytes | None) -> None:
    with suppress(OSError):  # the first refusal is the one that is told
        if content is None:
            path.unlink(missing_ok=True)
        elif content != path.read_bytes():
            replace_file(path, content)
            path.chmod(_MODE)


@contextmanager
def _told_of_refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: cannot be written: {error.strerror}. Nothing was changed."
        ) from error
