"""From a model of the store to a version that is served."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from edgert.device.handed import HandedPools
from edgert.device.opened import OpenDevice
from edgert.errors import DeviceError, DeviceLostError, ModelError
from edgert.execute.engine import Engine
from edgert.frames.request import InferRequest
from edgert.inference.answers import Answers
from edgert.inference.cached_version import CachedVersion
from edgert.inference.device_lanes import DeviceLanes, told_of_gpu
from edgert.inference.ensemble import Find, ServedEnsemble
from edgert.inference.feed import Feed, QueueFeed
from edgert.inference.fill import (
    DeviceRequestFiller,
    EngineShapes,
    HostRequestFiller,
    PythonRequestFiller,
    RequestFiller,
)
from edgert.inference.keep import OutputKeeper
from edgert.inference.limits import Limits, is_limited
from edgert.inference.response_cache import ResponseCache
from edgert.inference.sequence_feed import SequenceFeed
from edgert.inference.served_lanes import ServedLanes
from edgert.inference.served_model import ServedModel
from edgert.inference.served_version import ServedVersion
from edgert.inference.sites import FurtherGpus, Site
from edgert.inference.warmup import run_warmups
from edgert.models.completion import complete
from edgert.models.model_config import DynamicBatching, ModelConfig, QueuePolicy
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelEntry, ModelVersion
from edgert.pipeline.instance_groups import LanePlace, check_groups
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
    """Opens versions on the device of the service, and on further GPUs where instance groups name them."""

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
        further: FurtherGpus | None = None,
        find: Find | None = None,
    ) -> None:
        """`infer` is where an ensemble sends the requests of its steps; the first GPU is `device`.

        `find` returns a version that is served: ensembles ask it which steps hand over on a device.

        `on_lost` hears that a device does not answer: nothing goes on.
        """
        self._on_lost = on_lost
        self._cache = cache
        self._limiter = limiter
        self._metrics = metrics
        self._home = Site(device, scheduler)
        self._further = further
        self._load = load
        self._infer = infer
        self._find = find
        self._pools = HandedPools()

    def open(self, entry: ModelEntry, version: ModelVersion) -> ServedVersion:
        """Return the version, its lanes warm. Raises ModelError, ConfigError, OutOfDeviceMemoryError."""
        for warning in entry.warnings:
            log.warning("%s", warning)
        if entry.config.ensemble is not None:
            config = _named(entry.config, entry.name)
            handing = (self._find, self._pools)
            return ServedEnsemble(entry.name, version.number, config, self._infer, self._metrics, *handing)
        try:
            return self._open_lanes(entry, version)
        except DeviceLostError as lost:
            self._on_lost(lost)
            raise

    def _open_lanes(self, entry: ModelEntry, version: ModelVersion) -> ServedVersion:
        plan = plan_model(entry, {}, entry.settings.path)
        self._check_groups(plan)
        title = f"model {entry.name}/{version.number}"
        sites = [self._site(plan, place) for place in plan.places]
        with ExitStack() as undo:
            closing = undo.enter_context(ExitStack())
            parts = self._load_all(plan, version, sites, closing)
            lanes = ServedLanes(parts)
            closing.pop_all()
            closing.callback(lanes.close)
            config = _completed(plan, parts)
            open_feed = partial(_open_feed, config, entry.folder, len(sites))
            hidden = hidden_inputs(config)
            pool = self._pools.of(sites[0].device) if _is_handed(parts) else None
            told = (self._metrics, self._on_lost, pool)
            served = ServedModel(entry.name, version.number, config, lanes, open_feed, hidden, *told)
            closing.pop_all()
            undo.callback(served.close)
            lanes.open(config, lane_options_of(plan), partial(_open_filler, config, title, self._pools))
            run_warmups(config, entry.folder, served.warm)
            lanes.begin(served.feed, self._limits(title, config, plan.places, sites))
            undo.pop_all()
            return self._cached(served)

    def _load_all(
        self, plan: ModelPlan, version: ModelVersion, sites: Sequence[Site], undo: ExitStack
    ) -> list[DeviceLanes]:
        """Load the engine on each device that has lanes, once."""
        parts = []
        title = f"model {plan.entry.name}/{version.number}"
        for site in dict.fromkeys(sites):
            with told_of_gpu(site):
                engine = self._load(plan, version, site.device, _threads(len(sites)))
            undo.callback(engine.close)
            numbers = [number for number, own in enumerate(sites) if own is site]
            parts.append(DeviceLanes(engine, site, numbers, title))
        return parts

    def _site(self, plan: ModelPlan, place: LanePlace) -> Site:
        """Return where a lane runs. Raises ModelError: its GPU is not there."""
        if not place.gpu or FAMILY_OF_RUNTIME[plan.runtime] is not TENSORRT:
            return self._home
        where = f"{plan.entry.config.file}: field instance_group[{place.group}].gpus: found {place.gpu}"
        if self._further is None:
            raise ModelError(f"{where}, and only GPU 0 is used here")
        try:
            return self._further.site(place.gpu)
        except DeviceLostError:
            raise
        except DeviceError as error:
            raise ModelError(f"{where}: {error}") from error

    def _cached(self, served: ServedModel) -> ServedVersion:
        config = served.config
        is_cached = config.uses_response_cache and not config.is_decoupled and self._cache is not None
        return CachedVersion(served, self._cache) if is_cached and self._cache else served

    def _check_groups(self, plan: ModelPlan) -> None:
        has_gpu = "compute_capability" in self._home.device.driver.attributes()
        for warning in check_groups(plan.entry.config, plan.runtime, has_gpu=has_gpu):
            log.warning("%s", warning)

    def _limits(
        self, title: str, config: ModelConfig, places: Sequence[LanePlace], sites: Sequence[Site]
    ) -> Limits | None:
        if self._limiter is None or not is_limited(config):
            return None
        return Limits(self._limiter, title, config, places, [site.scheduler.wake for site in sites])


def hidden_inputs(config: ModelConfig) -> frozenset[str]:
    """Return the inputs that no client sends: a sequence's controls and states."""
    batching = config.sequence_batching
    if batching is None:
        return frozenset()
    controls, states = batching.controls, batching.states
    return frozenset([*(given.name for given in controls), *(state.input_name for state in states)])


def _completed(plan: ModelPlan, parts: Sequence[DeviceLanes]) -> ModelConfig:
    """Return the configuration, complete. Raises ModelError, also for engines that differ between GPUs."""
    configs = []
    for part in parts:
        with told_of_gpu(part.site):
            configs.append(_completed_by(plan, part.engine))
            if configs[-1] != configs[0]:
                first = parts[0].site.device.gpu
                raise ModelError(
                    f"{plan.entry.config.file}: field cc_model_filenames: its engine has other tensors than "
                    f"that of GPU {first}"
                )
    return configs[0]


def _completed_by(plan: ModelPlan, engine: Engine) -> ModelConfig:
    info = engine.info
    config = complete(plan.entry.config, info.inputs, info.outputs, info.batches, info.runtime)
    if info.runtime != "python":  # which alone can do without an input
        needed = tuple(msgspec.structs.replace(tensor, optional=False) for tensor in config.inputs)
        config = msgspec.structs.replace(config, inputs=needed)
    return _named(config, plan.entry.name)


def _is_handed(parts: Sequence[DeviceLanes]) -> bool:
    """Say whether what is on a device is on that of every lane."""
    return len(parts) == 1 and parts[0].engine.is_driven


def _open_filler(
    config: ModelConfig, title: str, pools: HandedPools, engine: Engine, site: Site
) -> RequestFiller:
    device = site.device
    if engine.info.runtime == "python":
        return PythonRequestFiller(device.copies)
    shapes = EngineShapes(config)
    if not engine.is_driven:
        return HostRequestFiller(shapes, device.copies)
    keeper = OutputKeeper(config, pools.of(device))
    return DeviceRequestFiller(shapes, device, device.owner_of(title), keeper)


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
