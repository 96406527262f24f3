"""What TensorRT says: handed on to `logging`, and turned into errors that name cause and remedy."""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edgert.errors import (
    ConfigError,
    DeviceError,
    DeviceLostError,
    EdgertError,
    EngineMismatchError,
    ModelError,
    OutOfDeviceMemoryError,
)

log = logging.getLogger("tensorrt")

KEPT_RECORDS = 50
# By ILogger.Severity. What TensorRT calls INFO are details of its own, several lines a model.
_LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING, logging.DEBUG, logging.DEBUG - 5)

# Warnings that are true of every start and ask nothing of anybody.
_HARMLESS = re.compile(
    r"does not support the current compute capability"  # TensorRT-RTX, and then the engine runs
    r"|The logger passed into \w+ differs from one already"
    r"|strongly typed is enabled by default"
    r"|CUDA lazy loading is not enabled"
)

_REBUILD = "Build it again on this device: edgert build"
_DAMAGED = "The file is damaged or incomplete: copy it again, or build it again: edgert build"

# The first row that fits any of the errors explains them: what follows from a cause stands below it.
_EXPLANATIONS: tuple[tuple[str, type[EdgertError], str], ...] = (
    (
        r"OutOfMemory|out of memory|std::bad_alloc|Requested amount of (GPU )?memory",
        OutOfDeviceMemoryError,
        "Fewer lanes, a smaller batch or a common scratch_group need less device memory",
    ),
    (
        r"illegal memory access|illegal instruction|misaligned address|unspecified launch failure"
        r"|device-side assert|uncorrectable ECC|fallen off the bus",
        DeviceLostError,
        "The device is lost to this process; it has to be restarted",
    ),
    (
        r"expecting library version|[Vv]ersion tag does not match|created with TensorRT-RTX version"
        r"|plan major version does not match|is version-locked|Forward Compatibility supported starting"
        r"|old deserialization call on a newer plan",
        EngineMismatchError,
        "It was built with another version of TensorRT. " + _REBUILD,
    ),
    (
        r"expecting compute|Expected compute capability|does not support th(is|e current) compute capability"
        r"|across different models of devices",
        EngineMismatchError,
        "It was built for another GPU. " + _REBUILD,
    ),
    (
        r"Platform specific tag mismatch|expectedPlatformTag",
        EngineMismatchError,
        "It was built on another kind of system (CPU or operating system). " + _REBUILD,
    ),
    (
        r"Unexpected call to stub",
        EngineMismatchError,
        "The lean and dispatch runtimes run engines only that are built version-compatible. Build it so: "
        'edgert build, or set [engine] runtime = "tensorrt"',
    ),
    (
        r"kEXPECTED_MAGIC_TAG|kMAGIC_TAG|incompatible serialization version|Not a valid plan",
        EngineMismatchError,
        "It is no engine for this runtime: check [engine] runtime, or build it again: edgert build",
    ),
    (r"(header\.size|cursor) ==? ?blobSize|cursor < blobSize|kEND_OF_PLAN", ModelError, _DAMAGED),
    (r"empty (memory buffer|blob)|Failed to read .* from (the )?stream", ModelError, _DAMAGED),
    (
        r"getEngineHostCodeAllowed\(\) is false",
        ModelError,
        "It carries code for the host. If you trust its origin, set [engine] host_code_allowed = true",
    ),
    (
        r"Runtime load failed|Unable to create temporary|temporary (file|directory)",
        ModelError,
        "The lean runtime inside it cannot be started: $TMPDIR must be writable and not mounted noexec",
    ),
    (
        r"kDLA_STANDALONE|safety engine",
        ModelError,
        "It was built for another loader (DLA standalone or safety). " + _REBUILD,
    ),
    (
        r"[Cc](an|ould) ?not find plugin|pluginCreator != nullptr|[Pp]lugin .*not (found|registered)",
        ModelError,
        "Name the library that has this plugin under [[engine.plugins]] in edgert.toml",
    ),
    (
        r"Target GPU SM \d+ is not supported",
        ConfigError,
        "This TensorRT was made for other GPUs. On a board use JetPack's own, not the wheel from PyPI",
    ),
    (
        r"CUDA initialization failure|[Ii]nsufficient ?[Dd]river|current CUDA driver version"
        r"|no CUDA-capable device",
        DeviceError,
        "The NVIDIA driver is missing or too old for this TensorRT: edgert doctor shows both",
    ),
    (r"Error Code \d+: Cuda|CudaError", DeviceError, "A CUDA call failed: edgert doctor shows the device"),
)
_COMPILED = tuple((re.compile(pattern), kind, remedy) for pattern, kind, remedy in _EXPLANATIONS)

# `[engine.cpp::readEngineFromArchive::1237] Error Code 2: OutOfMemory (Requested ... In f at /_src/f.cpp:1)`
_WRAPPED = re.compile(r"Error Code \d+: [^(]*\((.*?)\.?( In \w+ at \S+)?\)?$", re.DOTALL)

# TensorRT keeps the address of the first logger that it ever gets, for all that belongs to no engine, and
# calls it when that logger is long gone: the process crashes (seen with TensorRT-RTX 1.4.0.76).
_NEVER_FREED: list[Any] = []


class Record(msgspec.Struct, frozen=True):
    """One warning or error."""

    level: int  # of `logging`
    text: str


class Records:
    """The newest warnings and errors. Any thread, TensorRT's own too."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=KEPT_RECORDS)
        self._lock = threading.Lock()

    def keep(self, record: Record) -> None:
        """Add a record; the oldest goes where there are too many."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._records.clear()

    def kept(self) -> tuple[Record, ...]:
        """Return them, the oldest first."""
        with self._lock:
            return tuple(self._records)


class EngineLog:
    """What TensorRT says of one engine. `logger` goes to Runtime, Builder and parser."""

    def __init__(self, trt: Any, file: Path) -> None:
        self._file = file
        self._records = Records()
        self.logger = make_logger(trt, self._records)

    def records(self) -> tuple[Record, ...]:
        """Return the newest warnings and errors, the oldest first."""
        return self._records.kept()

    def last(self) -> str:
        """Return the newest error, else the newest warning; empty if there is none."""
        return _newest(self.records())

    def forget(self) -> None:
        """Forget what was said: it explains nothing that fails from now on."""
        self._records.clear()

    def explain(self, context: str) -> EdgertError:
        """Return what to raise. `context` says what failed, e.g. `TensorRT 10.3.0 cannot load it`."""
        return explain(self._file, self.records(), context)


def make_logger(trt: Any, records: Records) -> Any:
    """Return an ILogger of this module that hands on to `logging` and keeps warnings and errors in `records`.

    The logger lives as long as the process, but does not keep `records` alive.
    """
    logger = _logger_class(trt)(weakref.ref(records))
    _NEVER_FREED.append(logger)
    return logger


def explain(file: Path, records: Sequence[Record], context: str) -> EdgertError:
    """Return the error that fits what TensorRT said: cause, its own words, remedy."""
    errors = [record.text for record in records if record.level >= logging.ERROR]
    for pattern, kind, remedy in _COMPILED:
        for text in errors:
            if pattern.search(text):
                return kind(f"{file}: {context}: {_unwrapped(text)}. {remedy}")
    said = _unwrapped(_newest(records)) or "TensorRT does not say why"
    return ModelError(f"{file}: {context}: {said}")


@cache
def _logger_class(trt: Any) -> Any:
    return _subclass_of(trt.ILogger)


def _subclass_of(base: Any) -> Any:
    class Logger(base):  # type: ignore[misc] # the base comes from whichever module was loaded
        def __init__(self, records: weakref.ref[Records]) -> None:
            base.__init__(self)
            self._records = records

        def log(self, severity: Any, msg: str) -> None:
            record = _hand_on(int(severity), msg.rstrip())
            records = self._records() if record.level >= logging.WARNING else None
            if records is not None:
                records.keep(record)

    return Logger


def _hand_on(severity: int, text: str) -> Record:
    level = _LEVELS[severity] if 0 <= severity < len(_LEVELS) else logging.DEBUG
    if level == logging.WARNING and _HARMLESS.search(text):
        level = logging.DEBUG
    log.log(level, "%s", text)
    return Record(level, text)


def _newest(records: Sequence[Record]) -> str:
    worst = max((record.level for record in records), default=0)
    return next((record.text for record in reversed(records) if record.level == worst), "")


def _unwrapped(text: str) -> str:
    """Return TensorRT's own words without its function, error class and source line."""
    found = _WRAPPED.search(text)
    return (found[1] if found and found[1] else text).rstrip(". ")
