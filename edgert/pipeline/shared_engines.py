"""Engines that frames and requests share: the weights of one file are in memory once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path

from edgert.device.opened import OpenDevice
from edgert.execute.engine import DEFAULT_LANE, Engine, EngineDetails, Lane, LaneOptions
from edgert.models.store import ModelVersion
from edgert.pipeline.model_plan import ModelPlan

LoadEngine = Callable[[ModelPlan, ModelVersion, OpenDevice, int], Engine]

_STATELESS = ("onnxruntime", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")


class SharedEngines:
    """Loads an engine file once for all that want the same, and closes it after the last. Any thread.

    Whoever comes first decides the number of threads. A file that was replaced is another one.
    """

    def __init__(self, load: LoadEngine) -> None:
        self._load = load
        self._engines: dict[Hashable, tuple[Engine, int]] = {}
        self._lock = threading.Lock()

    def load(self, plan: ModelPlan, version: ModelVersion, device: OpenDevice, threads: int) -> Engine:
        """Return the version's engine, for lanes of the caller's own. Raises ModelError, ConfigError."""
        if plan.runtime not in _STATELESS:
            return self._load(plan, version, device, threads)
        key = (*_identity(plan.engine_file(version, device)), plan.runtime, plan.settings.engine)
        with self._lock:
            engine, users = self._engines.get(key) or (self._load(plan, version, device, threads), 0)
            self._engines[key] = engine, users + 1
        return SharedEngine(engine, lambda: self._release(key))

    def _release(self, key: Hashable) -> None:
        with self._lock:
            engine, users = self._engines.pop(key)
            if users > 1:
                self._engines[key] = engine, users - 1
                return
        engine.close()


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


def _identity(file: Path) -> tuple[str, int, int, int]:
    """Return what is another one when a file was replaced."""
    status = file.stat()
    return str(file), status.st_ino, status.st_mtime_ns, status.st_size
