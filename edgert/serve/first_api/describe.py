"""The server's status: its models, their configurations, states and statistics."""

from __future__ import annotations

import time
from typing import Any

import edgert
from edgert.errors import UnavailableError, UnknownModelError
from edgert.models.config_json import config_to_message
from edgert.serve.core import Duration, IndexEntry, InferenceCore, ModelStatistics
from edgert.serve.first_api.messages import MESSAGE_CLASSES
from edgert.serve.first_api.reply import SERVER
from edgert.serve.first_api.schema import ENUMS
from edgert.serve.shared_memory import RegionStatus

ALL_SIZES = 0  # the batch size under which statistics of all requests stand
_SERVER_STATES = ENUMS["ServerReadyState"]
_MODEL_STATES = ENUMS["ModelReadyState"]


class StatusBuilder:
    """Makes messages of what a core says."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core
        self._began_mono_ns = time.monotonic_ns()

    def server(self, model: str = "") -> Any:
        """Return a ServerStatus, of one model or all. Raises UnknownModelError."""
        state = "SERVER_READY" if self._core.is_ready() else "SERVER_INITIALIZING"
        status = MESSAGE_CLASSES["ServerStatus"](
            id=SERVER,
            version=edgert.__version__,
            ready_state=_SERVER_STATES.index(state),
            uptime_ns=time.monotonic_ns() - self._began_mono_ns,
        )
        entries = [entry for entry in self._core.index() if model in ("", entry.name)]
        if model and not entries:
            raise UnknownModelError(f"no status available for unknown model '{model}'")
        statistics = {(found.name, found.version): found for found in self._statistics(model)}
        for entry in entries:
            self._add(status.model_status[entry.name], entry, statistics.get((entry.name, entry.version)))
        return status

    def index(self) -> Any:
        """Return a ModelRepositoryIndex."""
        index = MESSAGE_CLASSES["ModelRepositoryIndex"]()
        for name in dict.fromkeys(entry.name for entry in self._core.index()):
            index.models.add(name=name)
        return index

    def _statistics(self, model: str) -> list[ModelStatistics]:
        try:
            return self._core.statistics(model)
        except (UnknownModelError, UnavailableError):  # it is not loaded
            return []

    def _add(self, status: Any, entry: IndexEntry, statistics: ModelStatistics | None) -> None:
        if not status.config.name:
            self._describe(status.config, entry.name)
        if not entry.version:
            return
        version = status.version_status[int(entry.version)]
        state = f"MODEL_{entry.state}"
        version.ready_state = _MODEL_STATES.index(state if state in _MODEL_STATES else "MODEL_UNKNOWN")
        if entry.reason:
            version.ready_state_reason.message = entry.reason
        if statistics is not None:
            _add_statistics(version, statistics)

    def _describe(self, config: Any, model: str) -> None:
        """Fill in a model's configuration: its name alone while it is not loaded."""
        try:
            known = config_to_message(self._core.model_config(model))
        except (UnknownModelError, UnavailableError):
            config.name = model
        else:
            config.MergeFromString(known.SerializeToString())  # from another pool


def regions_message(regions: list[RegionStatus]) -> Any:
    """Return a SharedMemoryStatus."""
    status = MESSAGE_CLASSES["SharedMemoryStatus"]()
    for region in regions:
        told = status.shared_memory_region.add(name=region.name, byte_size=region.byte_size)
        told.system_shared_memory.shared_memory_key = region.key
        told.system_shared_memory.offset = region.offset
    return status


def _add_statistics(version: Any, statistics: ModelStatistics) -> None:
    version.model_execution_count = statistics.execution_count
    version.model_inference_count = statistics.inference_count
    version.last_inference_timestamp_milliseconds = statistics.last_inference
    found = statistics.inference_stats
    if not found.success.count and not found.fail.count:
        return
    stats = version.infer_stats[ALL_SIZES]
    _set(stats.success, found.success)
    _set(stats.failed, found.fail)
    _set(stats.queue, found.queue)
    compute = (found.compute_input, found.compute_infer, found.compute_output)
    _set(stats.compute, Duration(found.compute_infer.count, sum(part.ns for part in compute)))


def _set(told: Any, duration: Duration) -> None:
    told.count, told.total_time_ns = duration.count, duration.ns
