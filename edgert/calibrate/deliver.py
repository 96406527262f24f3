"""Makes a version of the store from the INT8 model: an engine, or for the host the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgert.build.describe import EngineFacts, describe
from edgert.build.install import drafted, remove_old
from edgert.build.options import BuildOptions, completed
from edgert.build.version import build_version
from edgert.calibrate.recipe import InstallOptions, Recipe
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.calibrate.setting import Setting
from edgert.models.runtime import ONNX
from edgert.models.store import ModelStore

COMPARED_FRAMES = 20  # with which a TensorRT engine is compared with the INT8 model
DEFAULT_BATCH = 8


class Delivered(msgspec.Struct, frozen=True):
    """A version that is in the store."""

    model: str
    version: int
    file: str
    size_bytes: int
    notes: tuple[str, ...] = ()


def deliver(
    setting: Setting, options: InstallOptions, int8_model: Path, held_out: Sequence[SampleFrame]
) -> Delivered:
    """Build the engine and activate it. Blocks for seconds to many minutes.

    Raises:
        ConfigError: the store, or the runtime, does not take it.
        ModelError: it cannot be built, or is too far from the INT8 model; the store is as it was.
        DeviceError: there is no GPU where one is needed, or it failed.
    """
    if options.runtime == "onnxruntime":
        return _install(setting, options, int8_model)
    recipe = setting.recipe
    report = build_version(_build_options(recipe, options, int8_model, held_out))
    file = Path(report.file)
    return Delivered(report.model, report.version, report.file, file.stat().st_size, report.notes)


def _install(setting: Setting, options: InstallOptions, int8_model: Path) -> Delivered:
    """Put the model itself into the store, for onnxruntime."""
    recipe, info = setting.recipe, setting.info
    like = ModelStore(recipe.store).entry(recipe.options.model)
    max_batch = (like.config.max_batch_size or DEFAULT_BATCH) if info.batches else 0
    content = int8_model.read_bytes()
    with drafted(recipe.store, recipe.name, ONNX.filename) as draft:
        draft.write_plan(content)
        describe(draft, EngineFacts(info.inputs, info.outputs, max_batch), "onnxruntime", like)
        version = draft.activate()
        file = draft.plan_file
    if options.keep_previous is not None:
        remove_old(recipe.store, recipe.name, options.keep_previous)
    return Delivered(recipe.name, version.number, str(file), len(content))


def _build_options(
    recipe: Recipe, options: InstallOptions, int8_model: Path, held_out: Sequence[SampleFrame]
) -> BuildOptions:
    assert options.runtime != "onnxruntime"  # noqa: S101 - our own invariant
    frames = tuple(recipe.work / frame.file for frame in held_out[:COMPARED_FRAMES])
    return completed(
        BuildOptions(
            model=int8_model,
            store=recipe.store,
            name=recipe.name,
            runtime=options.runtime,
            like=recipe.options.model,
            precision="int8",
            batches=options.batches,
            workspace_mb=options.workspace_mb,
            frames=frames,
            keep_previous=options.keep_previous,
        )
    )
