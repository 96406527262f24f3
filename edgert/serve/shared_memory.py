"""Tensors in POSIX shared memory that clients on this machine register.

A mapping of a file that its owner makes shorter ends the process that reads it with SIGBUS, and no check
before the read can prevent that. So only an object that nobody but this process's own user may write is
mapped: whoever can shorten that could end the process anyway. Its size is compared before each use, so
that a mistake is an error. All others are read and written as files, where too short is an error and never
a signal; that costs one copy more, which is counted.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from edgert.errors import RequestError, UnknownModelError, UnsupportedError
from edgert.serve.bodies import Bodies, TooLargeError
from edgert.stats import CopyCounts, LiveCount

SHM_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
MAX_REGIONS = 1024
MAX_NAME = 255
_KEY = re.compile(r"/?([A-Za-z0-9_][A-Za-z0-9._-]{0,254})")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class TakenError(RequestError):
    """A name that another region has."""


class RegionStatus(msgspec.Struct, frozen=True):
    """A region as its client registered it."""

    name: str
    key: str
    offset: int
    byte_size: int


def no_regions() -> UnsupportedError:
    """Say why a request may not name regions."""
    return UnsupportedError(
        "shared memory is off, or its client not on the server's machine; it is for clients there, where "
        "serve.shared_memory = true in the pipeline file"
    )


class Span:
    """A part of a region, for one tensor. Valid also after the region was unregistered."""

    __slots__ = ("_region", "_start", "size")

    def __init__(self, region: _Region, start: int, size: int) -> None:
        self._region = region
        self._start = start
        self.size = size

    def read(self) -> memoryview:
        """Return the bytes to read, in place where that is safe, else a copy. Raises RequestError."""
        return self._region.read(self._start, self.size).toreadonly()

    def write(self, data: memoryview | bytes) -> None:
        """Copy `data` to the beginning. Any thread. Raises RequestError."""
        self._region.write(self._start, memoryview(data).cast("B"))


class SharedMemory:
    """The regions that clients registered. Any thread may call."""

    live: ClassVar[LiveCount] = LiveCount("shared memory region")

    def __init__(self, copies: CopyCounts, folder: Path = SHM_FOLDER) -> None:
        """`copies` gets `shared_to_host` and `host_to_shared`."""
        self.bodies: Bodies | None = None  # counts copies of tensors; None: they are not counted
        self._copies = copies
        self._folder = folder
        self._regions: dict[str, _Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Make a shared memory object known.

        Raises:
            TakenError: the name is taken.
            RequestError: the object is not there, not fit or too small.
        """
        _check_region(name, offset, byte_size)
        with self._lock:
            if name in self._regions:
                raise TakenError(f"shared memory region '{name}' already in manager")
            if len(self._regions) >= MAX_REGIONS:
                raise RequestError(f"there are {MAX_REGIONS} shared memory regions already")
            status = RegionStatus(name, key, offset, byte_size)
            self._regions[name] = _Region(status, self._folder, self._copies, self._room)
            self.live.opened()

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all; what is under way may still use it. An unknown name is no error."""
        with self._lock:
            names = [name] if name else list(self._regions)
            for known in names:
                if self._regions.pop(known, None) is not None:
                    self.live.closed()

    def status(self, name: str = "") -> list[RegionStatus]:
        """Return one region, or all. Raises UnknownModelError, whose status is 404, for an unknown one."""
        with self._lock:
            if not name:
                return [region.status for region in self._regions.values()]
            if name not in self._regions:
                raise UnknownModelError(f"Unable to find system shared memory region: '{name}'")
            return [self._regions[name].status]

    def span(self, name: str, offset: int, size: int) -> Span:
        """Return a part of a region. Raises RequestError, or UnknownModelError for an unknown name."""
        with self._lock:
            region = self._regions.get(name)
        if region is None:
            raise UnknownModelError(f"Unable to find shared memory region: '{name}'")
        if offset < 0 or size < 1 or offset + size > region.status.byte_size:
            raise RequestError(f"Invalid offset + byte size for shared memory region: '{name}'")
        return Span(region, region.status.offset + offset, size)

    def view(self, name: str, offset: int, size: int) -> memoryview:
        """Return a part of a region to read, as `span` and its `read` do."""
        return self.span(name, offset, size).read()

    def is_copied(self, name: str) -> bool:
        """Say whether reading a region copies it; False for an unknown name."""
        with self._lock:
            region = self._regions.get(name)
        return region is not None and region.is_copied

    def check_copies(self, size: int) -> None:
        """See that one request does not copy too much. Raises TooLargeError."""
        if self.bodies is not None and size > self.bodies.request_limit_bytes:
            raise TooLargeError(
                f"a request may copy {self.bodies.request_limit_bytes} bytes of shared memory that others "
                f"may write; this one has {size}"
            )

    def _room(self, size: int) -> memoryview:
        self.check_copies(size)
        return np.empty(size, np.uint8).data if self.bodies is None else self.bodies.room(size)

    def close(self) -> None:
        """Forget all regions."""
        self.unregister()


class _Region:
    """An open object. It is closed when nothing refers to it any more, views of it included."""

    def __init__(
        self, status: RegionStatus, folder: Path, copies: CopyCounts, room: Callable[[int], memoryview]
    ) -> None:
        self.status = status
        self._room = room
        self._copies = copies
        self._file = _open_object(status, folder)
        weakref.finalize(self, os.close, self._file)
        self._end = status.offset + status.byte_size
        self._check_size()
        self._map = mmap.mmap(self._file, self._end) if _is_ours_alone(self._file) else None

    @property
    def is_copied(self) -> bool:
        return self._map is None

    def read(self, start: int, size: int) -> memoryview:
        if self._map is not None:
            self._check_size()
            return memoryview(self._map)[start : start + size]
        data = self._room(size)
        if os.preadv(self._file, [data], start) != size:
            raise self._too_small()
        self._copies.add("shared_to_host", size)
        return data

    def write(self, start: int, data: memoryview) -> None:
        self._check_size()
        if self._map is not None:
            self._map[start : start + len(data)] = data
        elif os.pwrite(self._file, data, start) != len(data):
            raise RequestError(f"shared memory region '{self.status.name}' cannot be written")
        self._copies.add("host_to_shared", len(data))

    def _check_size(self) -> None:
        if os.fstat(self._file).st_size < self._end:
            raise self._too_small()

    def _too_small(self) -> RequestError:
        return RequestError(
            f"failed to register shared memory region '{self.status.name}': invalid args; "
            f"'{self.status.key}' has {os.fstat(self._file).st_size} bytes, the region ends at {self._end}"
        )


def _check_region(name: str, offset: int, byte_size: int) -> None:
    if not name or len(name) > MAX_NAME:
        raise RequestError("'region name' is necessary to register system shared memory region")
    if byte_size < 1 or offset < 0:
        raise RequestError(
            f"failed to register shared memory region '{name}': byte_size must be above 0, offset 0 or more"
        )


def _open_object(status: RegionStatus, folder: Path) -> int:
    match = _KEY.fullmatch(status.key)
    if match is None:
        raise RequestError(f"Unable to open shared memory region: '{status.key}'; it is no object's name")
    try:
        descriptor = os.open(folder / match[1], _FLAGS)
    except OSError as error:
        reason = f"Unable to open shared memory region: '{status.key}'"
        raise RequestError(f"{reason}; {os.strerror(error.errno or 0)}") from None
    if not _is_allowed(os.fstat(descriptor)):
        os.close(descriptor)
        raise RequestError(
            f"Unable to open shared memory region: '{status.key}'; it is no shared memory object of this "
            f"server's user, nor open to its group or to all"
        )
    return descriptor


def _is_allowed(found: os.stat_result) -> bool:
    """Judge by owner and mode alone: that root may open anything is nothing that clients may use."""
    if not stat.S_ISREG(found.st_mode):
        return False
    if found.st_uid == os.geteuid():
        return True
    for_group = stat.S_IRGRP | stat.S_IWGRP
    for_all = stat.S_IROTH | stat.S_IWOTH
    is_in_group = found.st_gid in {os.getegid(), *os.getgroups()}
    return found.st_mode & (for_group if is_in_group else for_all) in (for_group, for_all)


def _is_ours_alone(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
