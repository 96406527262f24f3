"""From a model of the store to a version that is served."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from edgert.device.opened import OpenDevice
from edgert.execute.engine import Engine
from edgert.frames.request import InferRequest
from edgert.inference.answers import Answers
from edgert.inference.ensemble import ServedEnsemble
from edgert.inference.feed import Feed, QueueFeed
from edgert.inference.fill import DeviceRequestFiller, EngineShapes, HostRequestFiller, RequestFiller
from edgert.inference.sequence_feed import SequenceFeed
from edgert.inference.served_model import ServedModel
from edgert.inference.served_version import ServedVersion
from edgert.inference.warmup import run_warmups
from edgert.models.completion import complete
from edgert.models.model_config import DynamicBatching, ModelConfig, QueuePolicy
from edgert.models.store import ModelEntry, ModelVersion
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import lane_options_of
from edgert.pipeline.shared_engines import LoadEngine
from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.queued import OnDrop, QueueLimits
from edgert.schedule.request_queue import RequestQueue
from edgert.schedule.scheduler import Scheduler
from edgert.schedule.sequence import SequencePolicy
from edgert.schedule.sequences import Sequences


class Opener:
    """Opens versions on one device, for one scheduler."""

    def __init__(
        self,
        device: OpenDevice,
        scheduler: Scheduler,
        load: LoadEngine,
        infer: Callable[[InferRequest], None],
    ) -> None:
        """`infer` is where an ensemble sends the requests of its steps."""
        self._device = device
        self._load = load
        self._scheduler = scheduler
        self._infer = infer

    def open(self, entry: ModelEntry, version: ModelVersion) -> ServedVersion:
        """Return the version, its lanes warm. Raises ModelError, ConfigError, OutOfDeviceMemoryError."""
        if entry.config.ensemble is not None:
            return ServedEnsemble(entry.name, version.number, _named(entry.config, entry.name), self._infer)
        plan = plan_model(entry, {}, entry.settings.path)
        with ExitStack() as undo:
            engine = self._load(plan, version, self._device, _threads(plan.lanes))
            closing = undo.enter_context(ExitStack())
            closing.callback(engine.close)
            config = self._completed(plan, engine)
            served = ServedModel(
                entry.name,
                version.number,
                config,
                engine,
                self._scheduler,
                partial(_open_feed, config, entry.folder, plan.lanes),
                hidden_inputs(config),
            )
            closing.pop_all()
            undo.callback(served.close)
            with self._device.driver.current():
                served.open_lanes(
                    plan.lanes, lane_options_of(plan), partial(self._open_filler, config, engine, served)
                )
            served.begin()
            run_warmups(served, entry.folder, plan.lanes)
            undo.pop_all()
            return served

    @staticmethod
    def _completed(plan: ModelPlan, engine: Engine) -> ModelConfig:
        info = engine.info
        config = complete(plan.entry.config, info.inputs, info.outputs, info.batches, info.runtime)
        return _named(config, plan.entry.name)

    def _open_filler(self, config: ModelConfig, engine: Engine, served: ServedModel) -> RequestFiller:
        shapes = EngineShapes(config)
        if not engine.is_driven:
            return HostRequestFiller(shapes, self._device.copies)
        owner = self._device.owner_of(f"model {served.name}/{served.version}")
        return DeviceRequestFiller(shapes, self._device, owner)


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
    return SequenceFeed(Sequences(config.name, lanes, policy, answers.fail), config, folder, answers)


def _open_queue(config: ModelConfig, on_drop: OnDrop) -> RequestQueue:
    batching = config.dynamic_batching
    if batching is None or not config.max_batch_size:
        return RequestQueue(BatchPolicy(1), on_drop)
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
