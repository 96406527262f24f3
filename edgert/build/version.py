"""Builds one engine and puts it into the store as a version, compared first where that can be done."""

from __future__ import annotations

import datetime
import shlex
import time
from typing import Any

import msgspec

from edgert.build.agreement import as_absence, as_record, compare_version, obstacle
from edgert.build.calibration import OpenCalibrator, calibrator_of_cache
from edgert.build.compare import limits_for
from edgert.build.describe import EngineFacts, describe
from edgert.build.graph import settle_graph
from edgert.build.install import Draft, drafted, remove_old
from edgert.build.onnx_file import read_onnx
from edgert.build.options import BUILDER_OF, BuildOptions, check_options
from edgert.build.plan import BuiltPlan, build_plan, parse_model
from edgert.build.progress import BuildProgress
from edgert.build.report import BuildReport
from edgert.build.target import Target, batch_note, check_fit, check_runtime, find_target, plan_of
from edgert.device.board import probe_cuda_driver
from edgert.device.opened import open_device
from edgert.errors import ModelError
from edgert.execute.tensorrt_bindings import load_bindings
from edgert.models.manifest import Manifest, sha256_of, write_manifest
from edgert.models.store import ModelEntry, ModelStore


def build_version(options: BuildOptions, open_calibrator: OpenCalibrator | None = None) -> BuildReport:
    """Build an engine and activate it. Blocks for seconds to many minutes.

    `open_calibrator` goes with `options.calibrator`.

    Raises:
        ConfigError: options, model, store and runtime do not fit together.
        ModelError: the model cannot be built, or the engine is too far from it; then nothing has changed.
        DeviceError: there is no GPU where one is needed, or it failed.
        EdgertError: what the calibrator's frames raised, as it was.
        KeyboardInterrupt: Ctrl-C; nothing has changed.
    """
    started_s = time.monotonic()
    target = find_target(options.store, options.name, options.like)
    check_runtime(target.entry, options)
    if options.calibration_cache is not None:
        open_calibrator = calibrator_of_cache(options.calibration_cache)
    return _install(options, _build(options, target, open_calibrator), target, started_s)


def _build(options: BuildOptions, target: Target, open_calibrator: OpenCalibrator | None) -> BuiltPlan:
    """Build the engine; what the builder needs for it, much of the memory of a board, is free on return."""
    builder = BUILDER_OF[options.runtime]
    bindings = load_bindings(builder, needs_device=builder != "tensorrt_rtx")
    check_options(options, bindings, has_device=probe_cuda_driver().version is not None)
    file = read_onnx(options.model)
    graph = settle_graph(file, options, target.decode, has_precision_flags=bindings.has_precision_flags)
    job = parse_model(options, graph, bindings, target.default_batch, target.plugins)
    check_fit(target, options, job.facts)
    return build_plan(job, BuildProgress(options.name), open_calibrator)


def _install(options: BuildOptions, plan: BuiltPlan, target: Target, started_s: float) -> BuildReport:
    capabilities = _capabilities(options)
    name = target.plan_name(capabilities[0] if len(capabilities) == 1 else None)
    with drafted(options.store, options.name, name) as draft:
        draft.write_plan(plan.content)
        written = describe(draft, plan.facts, options.runtime, target.like)
        manifest = _manifest(draft, options, target, plan, capabilities)
        write_manifest(draft.plan_file, manifest)  # the engine may be loaded only with it
        agreement = _compare(draft, ModelStore(options.store).entry(options.name), options)
        manifest = msgspec.structs.replace(manifest, agreement=agreement)
        write_manifest(draft.plan_file, manifest)
        version = draft.activate()
        file = draft.plan_file
    removed: tuple[str, ...] = ()
    is_near = manifest.agreement.get("near") is True
    if options.keep_previous is not None and (is_near or options.forced):
        removed = remove_old(options.store, options.name, options.keep_previous)
    return BuildReport(
        model=options.name,
        version=version.number,
        file=str(file),
        manifest=manifest,
        seconds=round(time.monotonic() - started_s, 1),
        written=written,
        removed=removed,
        notes=(*_notes(options, target, manifest, plan.facts), *plan.warnings),
    )


def _capabilities(options: BuildOptions) -> tuple[str, ...]:
    """Return what the engine is for; TensorRT builds for the GPU that it runs on."""
    if BUILDER_OF[options.runtime] == "tensorrt_rtx":
        return options.compute
    device = open_device("cuda")
    try:
        return (str(device.driver.attributes()["compute_capability"]),)
    finally:
        device.close()


def _manifest(
    draft: Draft, options: BuildOptions, target: Target, plan: BuiltPlan, capabilities: tuple[str, ...]
) -> Manifest:
    return Manifest(
        plan_sha256=sha256_of(draft.plan_file),
        plan_bytes=draft.plan_file.stat().st_size,
        runtime=BUILDER_OF[options.runtime],
        runtime_version=plan.runtime_version,
        compute_capabilities=capabilities,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        needs_host_code=options.version_compatible and options.runtime != "tensorrt_lean",
        built_utc=datetime.datetime.now(datetime.timezone.utc),
        source=plan.source,
        precision=options.precision,
        profiles=plan.profiles,
        options=options.summary(),
        plugins={plugin.file: plugin.sha256.lower() for plugin in target.plugins},
    )


def _compare(draft: Draft, entry: ModelEntry, options: BuildOptions) -> dict[str, Any]:
    """Compare the draft with its model. Raises ModelError if it is too far off and not forced."""
    if reason := obstacle(options.runtime, options.frames):
        return as_absence(reason)
    comparison = compare_version(
        plan_of(entry, options.runtime),
        draft.version,
        options.model,
        options.frames,
        limits_for(options.precision, options.tolerance),
    )
    if not comparison.is_near and not options.forced:
        raise ModelError(
            f"Model {options.name}: the engine is too far from {options.model}: "
            f"{'; '.join(comparison.problems)}. It was not activated. Try another --precision or "
            "--tolerance, or activate it as it is with --force"
        )
    return as_record(comparison)


def _notes(options: BuildOptions, target: Target, manifest: Manifest, facts: EngineFacts) -> list[str]:
    notes = [note] if (note := batch_note(target, options, facts)) else []
    if not manifest.agreement["made"]:
        words = ("edgert", "build", options.model, "--compare", options.name, "--store", options.store)
        notes.append(f"to compare it later: {shlex.join(map(str, words))} --frames FILE...")
    if target.entry is not None and options.like:
        notes.append(f"--like {options.like}: the model is there already, its own settings stay")
    if manifest.needs_host_code:
        notes.append("the engine carries a lean runtime: set host_code_allowed = true below [engine]")
    policy = target.entry.config.version_policy if target.entry else None
    if policy is not None and policy.kind == "specific":
        notes.append("config.pbtxt names the versions that are served; add this one there")
    if options.reduction is not None:
        notes.append(
            f"the same is found as long as no more than {options.reduction.top_k} boxes reach score_min"
        )
    return notes
