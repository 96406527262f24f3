"""Where an engine goes: which model of the store, for which runtime, and whether it will fit there."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgert.build.describe import EngineFacts
from edgert.build.options import BUILDER_OF, BuildOptions
from edgert.decode.factory import DecodeOptions
from edgert.decode.tensors import TensorsOptions
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import EngineInfo
from edgert.execute.options import PluginOptions
from edgert.execute.tensorrt_bindings import TensorRTRuntime
from edgert.models.completion import complete
from edgert.models.model_config import AUTO_MAX_BATCH_SIZE
from edgert.models.runtime import TENSORRT, stated_runtime
from edgert.models.store import ModelEntry, ModelStore
from edgert.pipeline.model_plan import ModelPlan, plan_model

_INSTALLABLE: tuple[tuple[TensorRTRuntime, tuple[str, ...]], ...] = (
    ("tensorrt", ("tensorrt", "tensorrt_bindings")),
    ("tensorrt_rtx", ("tensorrt_rtx",)),
)


class Target(msgspec.Struct, frozen=True):
    """The model that gets a version. `entry` is None for a new one; `like` is what that takes over."""

    entry: ModelEntry | None
    like: ModelEntry | None

    @property
    def decode(self) -> DecodeOptions:
        """What the outputs mean, as far as somebody has said."""
        known = self.entry or self.like
        return plan_of(known).settings.decode if known else TensorsOptions()

    @property
    def plugins(self) -> tuple[PluginOptions, ...]:
        """Libraries that the model needs, in its own folder."""
        return plan_of(self.entry).settings.engine.plugins if self.entry else ()

    @property
    def default_batch(self) -> int:
        """The batch size that an engine should reach if nothing is asked for."""
        known = self.entry or self.like
        return (known.config.max_batch_size if known else None) or AUTO_MAX_BATCH_SIZE

    def plan_name(self, capability: str | None) -> str:
        """Return the name of the engine's file, as config.pbtxt wants it."""
        config = self.entry.config if self.entry else None
        if config is None:
            return TENSORRT.filename
        named = config.cc_model_filenames.get(capability or "")
        return named or config.default_model_filename or TENSORRT.filename


def find_target(store: Path, name: str, like: str) -> Target:
    """Read what the store says of the model and of the one that it is to be like. Raises ModelError."""
    models = ModelStore(store)
    present = models.names() if store.is_dir() else ()
    entry = models.entry(name) if name in present else None
    return Target(entry, models.entry(like) if like else None)


def model_name(model: Path, store: Path) -> str:
    """Return the name that a model gets if none is given: its folder's in the store, else its file's."""
    folder = model.resolve().parent.parent
    return folder.name if folder.parent == store.resolve() else model.stem


def choose_runtime(
    entry: ModelEntry | None, find: Callable[[str], object] = importlib.util.find_spec
) -> TensorRTRuntime:
    """Return the runtime that the model states, else the one that is installed. Raises ConfigError."""
    stated = stated_runtime(entry.config, entry.settings) if entry else ""
    for runtime in BUILDER_OF:
        if runtime == stated:
            return runtime
    for runtime, modules in _INSTALLABLE:
        if any(find(module) for module in modules):
            return runtime
    raise ConfigError(
        "Neither TensorRT nor TensorRT-RTX is installed, and nothing else builds engines. On a board: apt "
        "install python3-libnvinfer; without a GPU: pip install 'edgert[rtx]'"
    )


def check_runtime(entry: ModelEntry | None, options: BuildOptions) -> None:
    """Raise ConfigError if the model's files are for a runtime that cannot run what is to be built."""
    stated = _runtime_of(entry) if entry else ""
    if entry is None or not stated:
        return
    builders = dict[str, str](BUILDER_OF.items())
    if builders.get(stated) != builders[options.runtime]:
        raise ConfigError(
            f"Model {entry.name} in {entry.folder} is for {stated}, the engine would be for "
            f"{options.runtime}. Give the engine a name of its own: "
            f"--name {entry.name}-{_suffix(options.runtime)} --like {entry.name}"
        )
    if stated in ("tensorrt_lean", "tensorrt_dispatch") and not options.version_compatible:
        raise ConfigError(f"Model {entry.name} is for {stated}: give --version-compatible")


def check_fit(target: Target, options: BuildOptions, facts: EngineFacts) -> None:
    """Raise ModelError if config.pbtxt, decoder and labels that are there do not fit the engine."""
    entry = target.entry
    if entry is None:
        return
    complete(entry.config, facts.inputs, facts.outputs, facts.batches, options.runtime)
    wanted = entry.config.max_batch_size or 0
    if facts.batches and wanted > facts.max_batch:
        raise ModelError(
            f"{entry.config.file}: field max_batch_size: found {wanted}, the engine would take "
            f"{facts.max_batch} at most. Give --batch {wanted}, or lower it there"
        )
    plan_of(entry, options.runtime).open_decoder(engine_info(options.runtime, facts))


def batch_note(target: Target, options: BuildOptions, facts: EngineFacts) -> str:
    """Say that the engine takes larger batches than config.pbtxt lets the service make; else nothing."""
    if target.entry is None or not facts.batches:
        return ""
    stated = target.entry.config
    config = complete(stated, facts.inputs, facts.outputs, facts.batches, options.runtime)
    served = config.max_batch_size or 0
    if not served or facts.max_batch <= served:
        return ""
    return (
        f"the engine takes batches up to {facts.max_batch}, the service makes none over {served}: raise "
        f"max_batch_size in {stated.file}"
    )


def plan_of(entry: ModelEntry, runtime: str = "") -> ModelPlan:
    """Return the model's settings, with the runtime that its engine is built for."""
    overrides = {"engine": {"runtime": runtime}} if runtime else {}
    return plan_model(entry, overrides, entry.settings.path)


def engine_info(runtime: str, facts: EngineFacts) -> EngineInfo:
    """Return the engine as it will say of itself."""
    return EngineInfo(runtime, facts.inputs, facts.outputs, facts.batches)


def _runtime_of(entry: ModelEntry) -> str:
    """Return what the model's files state, else what its newest version is for, else nothing."""
    stated = stated_runtime(entry.config, entry.settings)
    return stated or (plan_of(entry).runtime if entry.versions() else "")


def _suffix(runtime: str) -> str:
    return "rtx" if runtime == "tensorrt_rtx" else "trt"
