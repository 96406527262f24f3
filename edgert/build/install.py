"""Puts a new version into the store, all of it or nothing; takes versions back, and old ones away.

A version in the making is `<model>/<n>.partial`, one that was rolled back `<model>/<n>.rolled-back`. Neither
edgert nor the Inference Server takes such a folder for a version, as its name is no number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from edgert.disk import sync_folder, write_file
from edgert.errors import BusyError, ConfigError, ModelError
from edgert.models.manifest import MANIFEST_SUFFIX
from edgert.models.store import ModelStore, ModelVersion, wrong_with

PLAN_FILE = "model.plan"
PARTIAL = ".partial"
ROLLED_BACK = ".rolled-back"
_NUMBERED = re.compile(r"([1-9][0-9]{0,17})(\..+)?")


class Draft:
    """The next version of a model, invisible until `activate`. What is not activated leaves no trace."""

    def __init__(self, model_folder: Path, number: int, plan_name: str, undo: ExitStack) -> None:
        self.model_folder = model_folder
        self.number = number
        self.plan_name = plan_name
        self.folder = model_folder / f"{number}{PARTIAL}"
        self.is_active = False
        self._undo = undo

    @property
    def plan_file(self) -> Path:
        """Where the engine is now."""
        return self.version.folder / self.plan_name

    @property
    def version(self) -> ModelVersion:
        """The draft as a version of the store, to be loaded."""
        folder = self.model_folder / str(self.number) if self.is_active else self.folder
        return ModelVersion(self.model_folder.name, self.number, folder)

    def write_plan(self, content: bytes | memoryview) -> None:
        """Write the engine, down to the disk. Raises ConfigError."""
        with told_of(self.plan_file):
            write_file(self.plan_file, content)

    def add_beside(self, name: str, content: bytes) -> bool:
        """Write a file of the model's folder unless it is there already; return whether it was written."""
        path = self.model_folder / name
        if path.exists():
            return False
        with told_of(path):
            for folder in reversed(Path(name).parents[:-1]):
                _make_folder(self.model_folder / folder, self._undo)
            self._undo.callback(path.unlink, missing_ok=True)
            write_file(path, content)
        return True

    def activate(self) -> ModelVersion:
        """Make it a version, from one moment to the next. Raises ConfigError."""
        with told_of(self.model_folder):
            sync_folder(self.folder)
            self.folder.rename(self.model_folder / str(self.number))
            sync_folder(self.model_folder)
        self.is_active = True
        self._undo.pop_all()
        return self.version


class RollBack(msgspec.Struct, frozen=True):
    """What a roll-back has done."""

    model: str
    rolled_back: int
    active: int
    folder: str  # where the version is now, in the model's folder


@contextmanager
def drafted(store: Path, model: str, plan_name: str = PLAN_FILE) -> Iterator[Draft]:
    """Yield a draft of the model's next version; what an interrupted build has left there is removed.

    Raises:
        ConfigError: the name is none, or the folder cannot be written.
        BusyError: another build writes this model.
    """
    if wrong := wrong_with(model):
        raise ConfigError(f"--name {model!r}: {wrong}")
    folder = store / model
    with ExitStack() as undo:
        with told_of(folder):
            _make_folder(store, undo)
            _make_folder(folder, undo)
        with _locked(folder):
            with told_of(folder):
                _remove_leftovers(folder)
                draft = Draft(folder, _next_number(folder), plan_name, undo)
                draft.folder.mkdir()
            undo.callback(shutil.rmtree, draft.folder, ignore_errors=True)
            yield draft


def roll_back(store: Path, model: str) -> RollBack:
    """Take the newest version out of service, so that the one before it is served at the next reload.

    Raises:
        ModelError: there is no version before it, or config.pbtxt names its versions.
    """
    entry = ModelStore(store).entry(model)
    if entry.config.version_policy.kind == "specific":
        raise ModelError(
            f"{entry.config.file}: field version_policy.specific names the versions that are served; "
            "change it there, then reload"
        )
    versions = entry.versions()
    if len(versions) < 2:
        present = ", ".join(str(version.number) for version in versions) or "none"
        raise ModelError(f"{entry.folder}: has version {present}, expected one before it to go back to")
    before, newest = versions[-2:]
    target = newest.folder.with_name(f"{newest.number}{ROLLED_BACK}")
    with told_of(entry.folder), _locked(entry.folder):
        newest.folder.rename(target)
        sync_folder(entry.folder)
    return RollBack(model, newest.number, before.number, target.name)


def remove_old(store: Path, model: str, keep_previous: int) -> tuple[str, ...]:
    """Remove versions that `edgert build` made but the newest and `keep_previous` before it; return which.

    Versions without a manifest, and those that config.pbtxt names, stay.
    """
    entry = ModelStore(store).entry(model)
    versions = entry.versions()
    kept = {version.number for version in versions[-keep_previous - 1 :]}
    kept |= set(entry.config.version_policy.versions)
    oldest = min(kept, default=0)
    removed = []
    with told_of(entry.folder), _locked(entry.folder):
        for path in sorted(entry.folder.iterdir()):
            number = _number_of(path)
            is_old = number < oldest if path.suffix == ROLLED_BACK else number not in kept
            if number and is_old and any(path.glob(f"*{MANIFEST_SUFFIX}")):
                shutil.rmtree(path)
                removed.append(path.name)
    return tuple(removed)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ConfigError that names the path."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be written: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other builds out of a model's folder. Raises BusyError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError(f"{folder}: another `edgert build` is writing it; wait for its end") from None
    finally:
        os.close(handle)


def _make_folder(folder: Path, undo: ExitStack) -> None:
    if not folder.is_dir():
        folder.mkdir()
        undo.callback(_remove_if_empty, folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"*{PARTIAL}"):
        if _number_of(path):
            shutil.rmtree(path)


def _next_number(folder: Path) -> int:
    """Return a number that no version has or had: results carry it, and no result's key may come again."""
    return max((_number_of(path) for path in folder.iterdir()), default=0) + 1


def _number_of(path: Path) -> int:
    """Return the number of a version's folder, also of one that is partial or rolled back; else 0."""
    match = _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match and path.is_dir() else 0
