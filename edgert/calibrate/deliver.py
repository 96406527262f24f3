"""Makes a version of the store from the INT8 model: an engine, or for the host the model itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from edgert.build.describe import EngineFacts, describe
from edgert.build.install import drafted
from edgert.build.options import BUILDER_OF, BuildOptions, completed
from edgert.build.report import BuildReport, agreement_lines
from edgert.build.target import Target, check_runtime, find_target, plan_of
from edgert.build.version import build_version
from edgert.calibrate.calibrator_route import ALGORITHMS, CalibratorRoute, check_route
from edgert.calibrate.recipe import InstallOptions, Recipe
from edgert.calibrate.report.record import record_of
from edgert.calibrate.report.report import CalibrationReport, Delivered
from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet
from edgert.calibrate.setting import Setting
from edgert.device.opened import open_device
from edgert.errors import ConfigError
from edgert.execute.onnx_engine import load_onnx_engine
from edgert.execute.tensorrt_bindings import load_bindings
from edgert.models.calibration_cache import Algorithm
from edgert.models.calibration_record import write_record
from edgert.models.manifest import read_manifest, sha256_of
from edgert.models.runtime import ONNX, TENSORRT
from edgert.models.store import ModelEntry, ModelVersion

COMPARED_FRAMES = 20  # with which a TensorRT engine is compared with the INT8 model


def deliver(
    setting: Setting,
    options: InstallOptions,
    int8_model: Path,
    samples: SampleSet,
    report: CalibrationReport,
) -> Delivered:
    """Build the engine and activate it, unless it is there. Blocks for seconds to many minutes.

    Beside it is left what the report says of its accuracy, unless TensorRT calibrates it itself.

    Raises:
        ConfigError: the store, or the runtime, does not take it.
        ModelError: it cannot be built, or is too far from the INT8 model; the store is as it was.
        DeviceError: there is no GPU where one is needed, or it failed.
    """
    if options.calibrator is not None:
        return _calibrated(setting, options, ALGORITHMS[options.calibrator], samples)
    delivered = _of_int8_model(setting, options, int8_model, samples)
    file = Path(delivered.file)
    write_record(file, record_of(report, file))
    return delivered


def _of_int8_model(
    setting: Setting, options: InstallOptions, int8_model: Path, samples: SampleSet
) -> Delivered:
    recipe = setting.recipe
    if (before := _delivered_before(recipe, options, int8_model)) is not None:
        return before
    if options.runtime == "onnxruntime":
        return _install(setting, int8_model)
    return _as_delivered(build_version(_build_options(recipe, options, int8_model, samples.held_out)))


def check_delivery(setting: Setting, options: InstallOptions) -> None:
    """Refuse before frames are taken what could not be delivered. Raises ConfigError, ModelError."""
    recipe = setting.recipe
    target = find_target(recipe.store, recipe.name, recipe.options.model)
    if options.runtime == "onnxruntime":
        _check_host(recipe, options, target)
    else:
        check_route(setting, options)
        builder = BUILDER_OF[options.runtime]
        if not any(map(importlib.util.find_spec, (builder, f"{builder}_bindings"))):
            load_bindings(builder, needs_device=False)  # says what is missing, and how to get it
        check_runtime(target.entry, _build_options(recipe, options, setting.model.file.path, ()))
    if target.entry is not None:
        check_sameness(setting.plan.entry, target.entry)
    elif target.like is not None:
        check_likeness(target.like, options.runtime)


def check_sameness(like: ModelEntry, entry: ModelEntry) -> None:
    """Raise ConfigError if the INT8 model's own files have pictures prepared or outputs read otherwise."""
    if keys := tuple(_differences(like, entry)):
        raise ConfigError(
            f"{entry.settings.path}: {', '.join(keys)}: not as in {like.settings.path}, with which the model "
            "is calibrated and compared. Make them the same, or give the INT8 model another name"
        )


def _differences(like: ModelEntry, entry: ModelEntry) -> Iterator[str]:
    ours, theirs = plan_of(like).settings, plan_of(entry).settings
    for table in ("prepare", "decode"):
        one, other = (msgspec.to_builtins(getattr(each, table)) for each in (ours, theirs))
        keys = dict.fromkeys([*one, *other])
        yield from (f"{table}.{key}" for key in keys if one.get(key) != other.get(key))
    if like.labels() != entry.labels():
        yield "labels"


def check_likeness(like: ModelEntry, runtime: str) -> None:
    """Raise ConfigError if a new model for `runtime` cannot take over the settings of `like`."""
    engine = like.settings.tree.get("engine")
    if engine is not None and engine.get("runtime") != runtime:
        raise ConfigError(
            f"{like.settings.path}: [engine]: the INT8 model takes this file over, and is for {runtime}. "
            "Leave the table out, as the engine's file tells the runtime; or write the new model's "
            "edgert.toml yourself"
        )


def _check_host(recipe: Recipe, options: InstallOptions, target: Target) -> None:
    for name in ("batches", "workspace_mb", "keep_previous"):
        if getattr(options, name) not in ((), None):
            raise ConfigError(
                f"{recipe.path}: engine.{name}: is for engines of TensorRT, not for onnxruntime; leave it out"
            )
    if target.entry is None or not target.entry.versions():
        return
    runtime = plan_of(target.entry).runtime
    if runtime != "onnxruntime":
        raise ConfigError(
            f"{recipe.path}: engine.name = {recipe.name!r}: that model in {target.entry.folder} is for "
            f"{runtime}, not onnxruntime; give the INT8 model another name"
        )


def _calibrated(
    setting: Setting, options: InstallOptions, algorithm: Algorithm, samples: SampleSet
) -> Delivered:
    """Let TensorRT 10 or older build from the FP32 model, and calibrate it meanwhile."""
    route = CalibratorRoute(setting, algorithm, samples.calibration)
    build = _build_options(setting.recipe, options, setting.model.file.path, samples.held_out)
    report = build_version(msgspec.structs.replace(build, calibrator=algorithm), route.open)
    return _as_delivered(report, route.note, *agreement_lines(report.manifest.agreement))


def _as_delivered(report: BuildReport, *notes: str) -> Delivered:
    size_bytes = report.manifest.plan_bytes
    return Delivered(report.model, report.version, report.file, size_bytes, (*notes, *report.notes))


def _install(setting: Setting, int8_model: Path) -> Delivered:
    """Put the model itself into the store, for onnxruntime."""
    recipe, info = setting.recipe, setting.info
    target = find_target(recipe.store, recipe.name, recipe.options.model)
    max_batch = target.default_batch if info.batches else 0
    content = int8_model.read_bytes()
    name = (target.entry.config.default_model_filename if target.entry else "") or ONNX.filename
    with drafted(recipe.store, recipe.name, name) as draft:
        draft.write_plan(content)
        describe(draft, EngineFacts(info.inputs, info.outputs, max_batch), "onnxruntime", target.like)
        _load_once(draft.plan_file)
        version = draft.activate()
        file = draft.plan_file
    return Delivered(recipe.name, version.number, str(file), len(content))


def newest_version(recipe: Recipe) -> ModelVersion | None:
    """Return the newest version of the INT8 model, served or not. Raises ModelError."""
    entry = find_target(recipe.store, recipe.name, "").entry
    return entry.versions()[-1] if entry is not None and entry.versions() else None


def policy_note(recipe: Recipe, number: int) -> str:
    """Say why a version is not served, and what to change; nothing if it is. Raises ModelError."""
    entry = find_target(recipe.store, recipe.name, "").entry
    policy = entry.config.version_policy if entry is not None else None
    if entry is None or policy is None or policy.kind != "specific" or number in policy.versions:
        return ""
    return (
        f"version {number} is NOT served: {entry.config.file} names the versions that are. Add {number} to "
        "version_policy.specific.versions there, then reload"
    )


def runtime_version(options: InstallOptions) -> str:
    """Return the version of the TensorRT that builds here; nothing for onnxruntime. Raises ConfigError."""
    if options.runtime == "onnxruntime":
        return ""
    bindings = load_bindings(BUILDER_OF[options.runtime], needs_device=False)
    return ".".join(map(str, bindings.version))


def _load_once(file: Path) -> None:
    """Raise ModelError if the service could not load the model."""
    with closing(open_device("host")) as device:
        load_onnx_engine(file, 1, device.driver.allocate).close()


def _delivered_before(recipe: Recipe, options: InstallOptions, int8_model: Path) -> Delivered | None:
    """Return the newest version if it was made of this model, as a run had it made that was stopped then."""
    version = newest_version(recipe)
    if version is None:
        return None
    wanted = sha256_of(int8_model)
    for file in sorted(version.folder.iterdir()):
        if _source_of(file, recipe, options, int8_model) == wanted:
            return Delivered(recipe.name, version.number, str(file), file.stat().st_size)
    return None


def _source_of(file: Path, recipe: Recipe, options: InstallOptions, int8_model: Path) -> str:
    """Return the hash of what a file of a version was made of as these options say; else nothing."""
    if options.runtime == "onnxruntime":
        return sha256_of(file) if file.suffix == ONNX.suffixes[0] else ""
    manifest = read_manifest(file) if file.suffix in TENSORRT.suffixes else None
    asked = _build_options(recipe, options, int8_model, ()).summary()
    plain = msgspec.json.decode(msgspec.json.encode(asked))  # tuples are lists, as in the manifest
    if manifest is None or manifest.source is None or manifest.options != plain:
        return ""
    made_by = manifest.runtime, manifest.runtime_version
    here = BUILDER_OF[options.runtime], runtime_version(options)
    return manifest.source.sha256 if made_by == here else ""


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
