"""What the store and the pipeline file say of one model, typed, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgert.config import Document, Options, merge
from edgert.decode.decoder import Decoder
from edgert.decode.detect import DetectOptions
from edgert.decode.factory import DecodeOptions, open_decoder
from edgert.decode.tensors import TensorsOptions
from edgert.device.opened import OpenDevice
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import EngineInfo
from edgert.execute.options import EngineOptions
from edgert.models.model_config import DynamicBatching, ModelConfig, QueuePolicy, TensorConfig
from edgert.models.runtime import runtime_of, stated_runtime
from edgert.models.store import ModelEntry, ModelVersion
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.instance_groups import LanePlace, place_lanes
from edgert.prepare.options import PrepareOptions


class LabelOptions(Options, frozen=True, kw_only=True):
    """The `[labels]` table of edgert.toml."""

    file: str | None = None  # one label a line, relative to the model's folder
    colours: dict[str, str] = {}  # label to "#rrggbb", for pictures of the results


class ModelSettings(Options, frozen=True, kw_only=True):
    """A model's edgert.toml: what config.pbtxt has no words for."""

    engine: EngineOptions = EngineOptions()
    prepare: PrepareOptions = PrepareOptions()
    decode: DecodeOptions = msgspec.field(default_factory=TensorsOptions)
    labels: LabelOptions = LabelOptions()


class ModelPlan(msgspec.Struct, frozen=True):
    """A model of the store with its settings and the pipeline file's overrides."""

    entry: ModelEntry
    settings: ModelSettings

    @property
    def runtime(self) -> str:
        """The runtime that loads the model's engine file."""
        stated = self.settings.engine.runtime or stated_runtime(self.entry.config, self.entry.settings)
        if stated:
            return stated
        newest = self.entry.chosen_versions()[-1]
        return runtime_of(self.entry.config, self.entry.settings, self.engine_files(newest)[0])

    @property
    def lanes(self) -> int:
        """How many batches of frames run at once: all on one device, whatever GPUs the groups name."""
        groups = self.entry.config.instance_groups
        return self.settings.engine.lanes or sum(group.count for group in groups) or 1

    @property
    def places(self) -> tuple[LanePlace, ...]:
        """Where each lane for requests runs."""
        return place_lanes(self.entry.config, self.runtime, self.settings.engine.lanes)

    def engine_file(self, version: ModelVersion, device: OpenDevice) -> Path:
        """Return the engine of a version for this device. Raises ModelError."""
        capability = device.driver.attributes().get("compute_capability")
        return self.entry.engine_file(version, None if capability is None else str(capability))

    def engine_files(self, version: ModelVersion) -> list[Path]:
        """Return the engines of a version for all devices that have one of their own, else the one for all.

        Raises:
            ModelError: one is named and not there.
        """
        named = [self.entry.engine_file(version, key) for key in self.entry.config.cc_model_filenames]
        return named or [self.entry.engine_file(version)]

    def check(self) -> None:
        """Look at everything that needs no engine: versions, files, labels, decoding. Raises ModelError."""
        for version in self.entry.chosen_versions():
            if self.runtime != "noop":
                self.engine_files(version)
        stated = stated_info(self.entry.config)
        if stated is None:
            self.entry.labels()
        else:
            self.open_decoder(stated)

    def warnings(self) -> list[str]:
        """Return what the model's files say that edgert does not do, and what they may have forgotten."""
        found = [*self.entry.warnings, *_not_done(self.entry.config)]
        is_raw = isinstance(self.settings.decode, TensorsOptions) and self.settings.engine.runtime != "noop"
        if is_raw and "decode" not in self.entry.settings.tree:
            found.append(f"{self.entry.settings.path}: there is no [decode], so raw tensors are published")
        return found

    def detected_labels(self) -> Sequence[str]:
        """Return the labels of what the model finds in places; none for other models. Raises ModelError."""
        return self.entry.labels() if isinstance(self.settings.decode, DetectOptions) else ()

    def found_labels(self) -> Sequence[str] | None:
        """Return the labels of what the model finds; None if it finds raw tensors. Raises ModelError."""
        return None if isinstance(self.settings.decode, TensorsOptions) else self.entry.labels()

    def open_decoder(self, info: EngineInfo) -> Decoder:
        """Return the decoder for an engine. Raises ModelError if labels, settings and outputs do not fit."""
        labels = self.entry.labels()
        named = {tensor.name for tensor in self.entry.config.outputs}
        outputs = tuple(spec for spec in info.outputs if spec.name in named or not named)
        with told_of(self.entry.settings.path, "decode"):
            return open_decoder(self.settings.decode, labels, outputs, has_batch_axis=has_batch_axis(info))


def _not_done(config: ModelConfig) -> list[str]:
    """Return warnings about fields of config.pbtxt that are read and not followed for frames."""
    groups = config.instance_groups
    never = {
        "instance_group.profile": any(group.profile for group in groups),
        "instance_group.secondary_devices": any(group.secondary_devices for group in groups),
        "input.allow_ragged_batch": any(tensor.allow_ragged_batch for tensor in config.inputs),
    }
    told = "is not followed by this version"
    found = [f"{config.file}: field {name} {told}" for name, is_stated in never.items() if is_stated]
    told = "is followed for requests only, not for frames"
    return found + [f"{config.file}: field {name} {told}" for name in _only_for_requests(config)]


def _only_for_requests(config: ModelConfig) -> Iterator[str]:
    batching = config.dynamic_batching or DynamicBatching()
    stated = {
        "dynamic_batching.preserve_ordering": batching.preserve_ordering,
        "dynamic_batching.priority_levels": batching.priority_levels > 0,
        "dynamic_batching.default_queue_policy": batching.default_queue_policy != QueuePolicy(),
        "dynamic_batching.priority_queue_policy": bool(batching.priority_queue_policy),
        "sequence_batching": config.sequence_batching is not None,
        "instance_group.gpus": any(group.gpus not in ((), (0,)) for group in config.instance_groups),
        "instance_group.rate_limiter": any(group.rate_limit for group in config.instance_groups),
        "model_warmup": bool(config.warmups),
        "model_transaction_policy.decoupled": config.is_decoupled,
        "response_cache": config.uses_response_cache,
    }
    return (name for name, is_stated in stated.items() if is_stated)


def has_batch_axis(info: EngineInfo) -> bool:
    """Say whether the first axis of every tensor counts frames."""
    return info.batches or info.fixed_batch is not None


def stated_info(config: ModelConfig) -> EngineInfo | None:
    """Return the engine as config.pbtxt shows it; None if it leaves something open."""
    tensors = (*config.inputs, *config.outputs)
    if config.max_batch_size is None or not config.outputs or not config.inputs:
        return None
    if not all(tensor.dims for tensor in tensors):
        return None
    inputs, outputs = _specs(config, config.inputs), _specs(config, config.outputs)
    return EngineInfo("", inputs, outputs, batches=config.max_batch_size > 0)


def _specs(config: ModelConfig, tensors: Iterable[TensorConfig]) -> tuple[TensorSpec, ...]:
    axis = (-1,) if config.max_batch_size else ()
    return tuple(TensorSpec(tensor.name, tensor.dtype, axis + tensor.dims) for tensor in tensors)


@contextmanager
def told_of(path: Path, table: str) -> Iterator[None]:
    """Name the file and table in a ModelError that does not know them."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: [{table}]: {error}") from error


def plan_model(entry: ModelEntry, overrides: dict[str, Any], pipeline_file: Path) -> ModelPlan:
    """Return the plan for `entry`. Raises ConfigError naming the file that is wrong."""
    entry.settings.as_type(ModelSettings)  # first alone, so that an error names the right file
    merged = Document(entry.settings.path, merge(entry.settings.tree, overrides))
    try:
        settings = merged.as_type(ModelSettings)
    except ConfigError as error:
        text = str(error).removeprefix(f"{merged.path}: ")
        raise ConfigError(f"{pipeline_file}: models.{entry.name}.{text}") from error
    return ModelPlan(msgspec.structs.replace(entry, settings=merged), settings)
