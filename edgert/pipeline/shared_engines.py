"""Engines that frames and requests share: the weights of one file are on a device once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from pathlib import Path

from edgert.device.opened import OpenDevice
from edgert.execute.engine import DEFAULT_LANE, Engine, EngineDetails, Lane, LaneOptions
from edgert.models.store import ModelVersion
from edgert.pipeline.model_plan import ModelPlan

LoadEngine = Callable[[ModelPlan, ModelVersion, OpenDevice, int], Engine]

_STATELESS = ("onnxruntime", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")


class _Held:
    """An engine, and how many hold it. Whoever comes first loads it; the others wait for that one only."""

    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.engine: Engine | None = None
        self.users = 0


class SharedEngines:
    """Loads an engine file once for all that want it on a device, and closes it after the last. Any thread.

    Whoever comes first decides the number of threads. A version of which a file was replaced is another one.
    """

    def __init__(self, load: LoadEngine) -> None:
        self._load = load
        self._held: dict[Hashable, _Held] = {}
        self._lock = threading.Lock()

    def load(self, plan: ModelPlan, version: ModelVersion, device: OpenDevice, threads: int) -> Engine:
        """Return the version's engine, for lanes of the caller's own. Raises ModelError, ConfigError."""
        if plan.runtime not in _STATELESS:
            return self._load(plan, version, device, threads)
        file = _identity(plan.engine_file(version, device), version)
        key = (device, *file, plan.runtime, plan.settings.engine)
        held = self._hold(key)
        try:
            with held.loading:
                engine = held.engine = held.engine or self._load(plan, version, device, threads)
        except BaseException:
            self._release(key)
            raise
        return SharedEngine(engine, lambda: self._release(key))

    def _hold(self, key: Hashable) -> _Held:
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.users += 1
            return held

    def _release(self, key: Hashable) -> None:
        with self._lock:
            held = self._held[key]
            held.users -= 1
            if held.users:
                return
            del self._held[key]
        if held.engine is not None:
            held.engine.close()


class SharedEngine:
    """One user's hold on an Engine."""

    def __init__(self, engine: Engine, release: Callable[[], None]) -> None:
        self.info = engine.info
        self._engine = engine
        self._release: Callable[[], None] | None = release

    @property
    def is_driven(self) -> bool:
        """See Engine."""
        return self._engine.is_driven

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """See Engine."""
        return self._engine.open_lane(max_batch, on_done, options)

    def warmed(self) -> None:
        """See Engine."""
        self._engine.warmed()

    def details(self) -> EngineDetails:
        """See Engine."""
        return self._engine.details()

    def close(self) -> None:
        """Let go; the last one closes the engine. Allowed again."""
        release, self._release = self._release, None
        if release is not None:
            release()


def _identity(file: Path, version: ModelVersion) -> tuple[Hashable, ...]:
    """Return what is another one when a file of the version was replaced: weights may be beside the graph."""
    return str(file), tuple(sorted(_signs(version.folder)))


def _signs(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    for file in folder.rglob("*"):
        with suppress(OSError):  # a link to nowhere, or what has just gone; the engine's file is missed later
            status = file.stat()
            if not file.is_dir():
                yield str(file), status.st_ino, status.st_mtime_ns, status.st_size
