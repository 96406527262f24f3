"""Follows a model store on disk, and believes a change only once it is whole."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from edgert.errors import ModelError
from edgert.models.store import ModelStore

log = logging.getLogger(__name__)

SETTLE_S = 2.0
MAX_RETRY_NS = 600_000_000_000
# What editors and copying programs leave beside a file while they work, and what Python does.
_PASSING = re.compile(r"(^|/)(\.[^/]*|__pycache__|[^/]*(~|\.tmp|\.part|\.partial|\.filepart))(/|$)")

Kind = Literal["added", "changed", "removed"]


class Change(msgspec.Struct, frozen=True):
    """A model that has to be loaded, loaded again or unloaded."""

    model: str
    kind: Kind


class Item(msgspec.Struct, frozen=True, order=True):
    """A file or folder of a model; of a link, what it leads to."""

    name: str  # from the model's folder
    size: int
    mtime_ns: int  # 0 of a folder
    inode: int
    device: int


class Tree(msgspec.Struct, frozen=True):
    """All that a model's folder holds, sorted."""

    items: tuple[Item, ...]
    ctime_ns: int = 0  # when the newest of it was written, linked or renamed

    @property
    def lasting(self) -> tuple[Item, ...]:
        """What the model consists of: without hidden files and those that are only passing."""
        return tuple(item for item in self.items if not _PASSING.search(item.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]


Trees = Mapping[str, Tree | None]  # None: its folder cannot be read just now
Look = Callable[[ModelStore], Trees]


class _Failure(msgspec.Struct):
    """A model that could not be loaded, and when to try again."""

    kind: Kind
    tries: int
    due_ns: int


class StoreWatch:
    """Says what has changed since it was asked last. One thread asks.

    A change is told once the model's folder was the same in all looks for `settle_s`, and in at least two,
    and nobody has a file of it open for writing, as far as the kernel tells. A store that cannot be read
    has not changed.

    A model that could not be loaded is told again when it has changed, and with `retry_s` also after that
    time, then after twice that, and so on up to 10 minutes.
    """

    def __init__(
        self,
        store: ModelStore,
        settle_s: float = SETTLE_S,
        retry_s: float = 0.0,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        look: Look | None = None,
        is_written: Callable[[Path], bool] | None = None,
    ) -> None:
        self._store = store
        self._settle_ns = round(settle_s * 1e9)
        self._retry_ns = round(retry_s * 1e9)
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._look = look or read_trees
        self._is_written = is_written or is_open_for_writing
        self._known: dict[str, tuple[Item, ...]] = {}  # as it was told last
        self._unsettled: dict[str, tuple[Tree | None, int]] = {}  # since when it has been so
        self._told: dict[str, Kind] = {}
        self._failures: dict[str, _Failure] = {}
        self._unreadable: dict[str, int] = {}  # looks in a row
        self._is_blind = False

    def begin(self) -> list[str]:
        """Return the models that are whole now: nothing in their folders is younger than `settle_s`.

        They are known from now on; all others come from `changes` as added.
        """
        seen = self._see() or {}
        old_ns = self._utc_ns() - self._settle_ns
        whole = {
            name: tree
            for name, tree in seen.items()
            if tree is not None and tree.ctime_ns <= old_ns and not self._is_being_written(name, tree)
        }
        self._known.update({name: tree.lasting for name, tree in whole.items()})
        self._told.update(dict.fromkeys(whole, "added"))
        return sorted(whole)

    def changes(self) -> list[Change]:
        """Look once; return what is whole and new, and what is due for another try."""
        seen = self._see()
        if seen is None:
            return []
        now_ns = self._clock_ns()
        self._note_unreadable(name for name, tree in seen.items() if tree is None)
        names = sorted({*seen, *self._known, *self._unsettled} - self._unreadable.keys())
        found = [self._judge(name, seen.get(name), now_ns) for name in names]
        return [change for change in found if change is not None]

    def due_s(self) -> float | None:
        """Return when, in seconds of the clock, something may have settled or is due for another try."""
        settling = [since_ns + self._settle_ns for _, since_ns in self._unsettled.values()]
        trying = [failure.due_ns for failure in self._failures.values()] if self._retry_ns else []
        return min([*settling, *trying]) / 1e9 if settling or trying else None

    def failed(self, model: str) -> None:
        """Hear that a model could not be loaded as it is now."""
        failure = self._failures.get(model)
        tries = failure.tries + 1 if failure else 1
        wait_ns = min(self._retry_ns << min(tries - 1, 32), MAX_RETRY_NS)
        kind = self._told.get(model, "changed")
        self._failures[model] = _Failure(kind, tries, self._clock_ns() + wait_ns)

    def loaded(self, model: str) -> None:
        """Hear that a model could be loaded after all."""
        self._failures.pop(model, None)

    def _see(self) -> Trees | None:
        """Return all trees; None where the store cannot be read, which is logged once."""
        try:
            seen = self._look(self._store)
        except ModelError as error:
            log.log(
                logging.DEBUG if self._is_blind else logging.WARNING, "%s; models stay as they are", error
            )
            self._is_blind = True
            return None
        self._is_blind = False
        return seen

    def _note_unreadable(self, names: Iterable[str]) -> None:
        """Warn of folders that could not be read twice in a row; what was settling there has not settled."""
        self._unreadable = {name: self._unreadable.get(name, 0) + 1 for name in names}
        for name, looks in self._unreadable.items():
            self._unsettled.pop(name, None)
            if looks == 2:
                log.warning("model %s: its folder cannot be read; the model stays as it is", name)

    def _judge(self, name: str, tree: Tree | None, now_ns: int) -> Change | None:
        known = self._known.get(name)
        lasting = None if tree is None else tree.lasting
        if lasting == known:
            self._unsettled.pop(name, None)
            return self._retry(name, now_ns)
        before = self._unsettled.get(name)
        if before is None or before[0] != tree:
            self._unsettled[name] = (tree, now_ns)
            return None
        if now_ns - before[1] < self._settle_ns or (tree is not None and self._is_being_written(name, tree)):
            return None
        return self._tell(name, known, lasting)

    def _tell(self, name: str, known: tuple[Item, ...] | None, now: tuple[Item, ...] | None) -> Change:
        del self._unsettled[name]
        self._failures.pop(name, None)
        if now is None:
            del self._known[name]
            self._told.pop(name, None)
            return Change(name, "removed")
        self._known[name] = now
        kind = self._told[name] = "added" if known is None else "changed"
        return Change(name, kind)

    def _retry(self, name: str, now_ns: int) -> Change | None:
        failure = self._failures.get(name)
        if failure is None or not self._retry_ns or now_ns < failure.due_ns:
            return None
        failure.due_ns = now_ns + MAX_RETRY_NS  # unless `failed` says so before
        return Change(name, failure.kind)

    def _is_being_written(self, name: str, tree: Tree) -> bool:
        folder = self._store.folder / name
        return any(self._is_written(folder / item.name) for item in tree.items)


def read_trees(store: ModelStore) -> dict[str, Tree | None]:
    """Return what the folder of each model holds. Raises ModelError if the store cannot be read."""
    return {name: tree for name in store.names() for tree in _tree(store.folder / name)}


def tree_of(folder: Path) -> Tree | None:
    """Return what a model's folder holds; None if it has gone or cannot be read."""
    return next(_tree(folder), None)


def _tree(folder: Path) -> Iterator[Tree | None]:
    """Yield the tree of a folder, None if it cannot be read, nothing if it has just gone."""
    try:
        found = list(_walk(str(folder), "", frozenset()))
    except FileNotFoundError:
        if os.path.lexists(folder):  # something in it has gone: the next look sees the rest
            yield None
    except OSError as error:
        log.debug("%s cannot be read: %s", folder, error.strerror)
        yield None
    else:
        newest_ns = max((status.st_ctime_ns for _, status in found), default=0)
        yield Tree(tuple(sorted(_item(name, status) for name, status in found)), newest_ns)


def _walk(
    folder: str, prefix: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield names and what they lead to, folders before what is in them. Raises OSError."""
    own = Path(folder).stat()
    place = own.st_dev, own.st_ino
    if place in above:  # a link that leads back
        return
    yield prefix, own
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        name = f"{prefix}/{entry.name}".lstrip("/")
        if entry.is_dir():
            yield from _walk(entry.path, name, above | {place})
        else:
            yield name, _status(entry)


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return what an entry leads to; the link itself where it leads nowhere."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)


def _item(name: str, status: os.stat_result) -> Item:
    is_folder = (status.st_mode & 0o170000) == 0o040000
    size, mtime_ns = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return Item(name, size, mtime_ns, status.st_ino, status.st_dev)


def is_open_for_writing(path: Path) -> bool:
    """Say whether somebody has a file open for writing; False where the kernel does not tell.

    It grants a lease for reading only while nobody has, to the file's owner and on a local disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # SIGIO would end a process that is asked back
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
