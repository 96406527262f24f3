"""From a model of the store to a version that is served."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from edgert.device.opened import OpenDevice
from edgert.errors import DeviceLostError
from edgert.execute.engine import Engine
from edgert.frames.request import InferRequest
from edgert.inference.answers import Answers
from edgert.inference.cached_version import CachedVersion
from edgert.inference.ensemble import ServedEnsemble
from edgert.inference.feed import Feed, QueueFeed
from edgert.inference.fill import (
    DeviceRequestFiller,
    EngineShapes,
    HostRequestFiller,
    PythonRequestFiller,
    RequestFiller,
)
from edgert.inference.limits import Limits, is_limited
from edgert.inference.response_cache import ResponseCache
from edgert.inference.sequence_feed import SequenceFeed
from edgert.inference.served_lanes import ServedLanes
from edgert.inference.served_model import ServedModel
from edgert.inference.served_version import ServedVersion
from edgert.inference.warmup import run_warmups
from edgert.models.completion import complete
from edgert.models.model_config import DynamicBatching, ModelConfig, QueuePolicy
from edgert.models.store import ModelEntry, ModelVersion
from edgert.pipeline.instance_groups import check_groups
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import lane_options_of
from edgert.pipeline.shared_engines import LoadEngine
from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.queued import OnDrop, QueueLimits
from edgert.schedule.rate_limiter import RateLimiter
from edgert.schedule.request_queue import RequestQueue
from edgert.schedule.scheduler import Scheduler
from edgert.schedule.sequence import SequencePolicy
from edgert.schedule.sequences import Sequences
from edgert.serve.options import Metric

log = logging.getLogger(__name__)


class Opener:
    """Opens versions on one device, for one scheduler."""

    def __init__(
        self,
        device: OpenDevice,
        scheduler: Scheduler,
        load: LoadEngine,
        infer: Callable[[InferRequest], None],
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
        metrics: Collection[Metric] = (),
        on_lost: Callable[[DeviceLostError], None] = lambda _: None,
    ) -> None:
        """`infer` is where an ensemble sends the requests of its steps.

        `on_lost` hears that the device does not answer: nothing goes on.
        """
        self._on_lost = on_lost
        self._cache = cache
        self._limiter = limiter
        self._metrics = metrics
        self._device = device
        self._load = load
        self._scheduler = scheduler
        self._infer = infer

    def open(self, entry: ModelEntry, version: ModelVersion) -> ServedVersion:
        """Return the version, its lanes warm. Raises ModelError, ConfigError, OutOfDeviceMemoryError."""
        for warning in entry.warnings:
            log.warning("%s", warning)
        if entry.config.ensemble is not None:
            return ServedEnsemble(
                entry.name, version.number, _named(entry.config, entry.name), self._infer, self._metrics
            )
        try:
            return self._open_lanes(entry, version)
        except DeviceLostError as lost:
            self._on_lost(lost)
            raise

    def _open_lanes(self, entry: ModelEntry, version: ModelVersion) -> ServedVersion:
        plan = plan_model(entry, {}, entry.settings.path)
        self._check_groups(plan)
        title = f"model {entry.name}/{version.number}"
        with ExitStack() as undo:
            engine = self._load(plan, version, self._device, _threads(plan.lanes))
            lanes = ServedLanes(engine, self._scheduler, title)
            closing = undo.enter_context(ExitStack())
            closing.callback(lanes.close)
            config = self._completed(plan, engine)
            open_feed = partial(_open_feed, config, entry.folder, plan.lanes)
            hidden = hidden_inputs(config)
            served = ServedModel(
                entry.name, version.number, config, lanes, open_feed, hidden, self._metrics, self._on_lost
            )
            closing.pop_all()
            undo.callback(served.close)
            with self._device.driver.current():
                open_filler = partial(self._open_filler, config, engine, title)
                lanes.open(plan.lanes, config, lane_options_of(plan), open_filler)
                run_warmups(config, entry.folder, served.warm)
            lanes.begin(served.feed, self._limits(title, config))
            undo.pop_all()
            return self._cached(served)

    def _cached(self, served: ServedModel) -> ServedVersion:
        config = served.config
        is_cached = config.uses_response_cache and not config.is_decoupled and self._cache is not None
        return CachedVersion(served, self._cache) if is_cached and self._cache else served

    def _check_groups(self, plan: ModelPlan) -> None:
        has_gpu = "compute_capability" in self._device.driver.attributes()
        for warning in check_groups(plan.entry.config, plan.runtime, has_gpu=has_gpu):
            log.warning("%s", warning)

    def _limits(self, title: str, config: ModelConfig) -> Limits | None:
        return Limits(self._limiter, title, config) if self._limiter and is_limited(config) else None

    @staticmethod
    def _completed(plan: ModelPlan, engine: Engine) -> ModelConfig:
        info = engine.info
        config = complete(plan.entry.config, info.inputs, info.outputs, info.batches, info.runtime)
        if info.runtime != "python":  # which alone can do without an input
            needed = tuple(msgspec.structs.replace(tensor, optional=False) for tensor in config.inputs)
            config = msgspec.structs.replace(config, inputs=needed)
        return _named(config, plan.entry.name)

    def _open_filler(self, config: ModelConfig, engine: Engine, title: str) -> RequestFiller:
        if engine.info.runtime == "python":
            return PythonRequestFiller(self._device.copies)
        shapes = EngineShapes(config)
        if not engine.is_driven:
            return HostRequestFiller(shapes, self._device.copies)
        return DeviceRequestFiller(shapes, self._device, self._device.owner_of(title))


def hidden_inputs(config: ModelConfig) -> frozenset[str]:
    """Return the inputs that no client sends: a sequence's controls and states."""
    batching = config.sequence_batching
    if batching is None:
        return frozenset()
    controls, states = batching.controls, batching.states
    return frozenset([*(given.name for given in controls), *(state.input_name for state in states)])


def _named(config: ModelConfig, name: str) -> ModelConfig:
    return msgspec.structs.replace(config, name=name)


def _threads(lanes: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // lanes)


def _open_feed(config: ModelConfig, folder: Path, lanes: int, answers: Answers) -> Feed:
    if config.sequence_batching is None:
        return QueueFeed(_open_queue(config, answers.fail), answers)
    policy = SequencePolicy.of(config.max_batch_size or 0, config.sequence_batching)
    if config.is_decoupled:  # its answers have to be told apart
        policy = msgspec.structs.replace(policy, max_batch=1, is_direct=False, preferred=())
    return SequenceFeed(Sequences(config.name, lanes, policy, answers.fail), config, folder, answers)


def _open_queue(config: ModelConfig, on_drop: OnDrop) -> RequestQueue:
    batching = config.dynamic_batching
    if batching is None:
        return RequestQueue(BatchPolicy(1), on_drop)
    policy = BatchPolicy(1)
    if config.max_batch_size and not config.is_decoupled:  # whose answers have to be told apart
        delay_ns = batching.max_queue_delay_microseconds * 1000
        policy = BatchPolicy(config.max_batch_size, batching.preferred_batch_size, delay_ns)
    return RequestQueue(policy, on_drop, tuple(_levels(batching)), batching.default_priority_level or 1)


def _levels(batching: DynamicBatching) -> Iterator[QueueLimits]:
    """Return the limits of each priority level, the highest first."""
    for level in range(1, max(batching.priority_levels, 1) + 1):
        yield _limits(batching.priority_queue_policy.get(level, batching.default_queue_policy))


def _limits(policy: QueuePolicy) -> QueueLimits:
    return QueueLimits(
        max_size=policy.max_queue_size,
        timeout_ns=policy.default_timeout_microseconds * 1000,
        on_timeout="delay" if policy.timeout_action == "DELAY" else "reject",
        allows_override=policy.allow_timeout_override,
    )
