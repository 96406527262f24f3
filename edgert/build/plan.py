"""Builds one engine: network, configuration, and what the builder says when it fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from edgert.build.calibration import OpenCalibrator
from edgert.build.configure import configure, save_timing_cache
from edgert.build.describe import EngineFacts
from edgert.build.network import ParsedNetwork
from edgert.build.onnx_file import OnnxFile
from edgert.build.options import BuildOptions
from edgert.build.progress import BuildProgress, open_monitor, run_cancellable
from edgert.build.shapes import (
    Profile,
    calibration_inputs,
    check_single,
    fixed_shapes,
    largest_batch,
    profiles_for,
)
from edgert.errors import EdgertError, ModelError, OutOfDeviceMemoryError
from edgert.execute.options import PluginOptions
from edgert.execute.tensorrt_bindings import Bindings
from edgert.execute.tensorrt_calibrator import Calibrator
from edgert.execute.tensorrt_log import EngineLog, Record, explain
from edgert.execute.tensorrt_plugins import load_plugins
from edgert.models.manifest import SourceModel

# Said after every error, whatever it was.
_ECHO = re.compile(r"catchCudaError")
_NO_MEMORY = re.compile(r"OutOfMemory|insufficient workspace|workspace size")
_NO_INT8 = re.compile(r"MyelinCheckException.*dtype == ")
_MAX_WARNINGS = 5


class Job(msgspec.Struct, frozen=True):
    """A network ready to be built, and what is known of the engine before it is."""

    options: BuildOptions
    file: OnnxFile
    parsed: ParsedNetwork
    log: EngineLog
    profiles: tuple[Profile, ...]
    facts: EngineFacts


class BuiltPlan(msgspec.Struct, frozen=True):
    """A serialized engine and what is known of it; `content` is the builder's own memory."""

    content: memoryview
    source: SourceModel
    runtime_version: str  # three or four numbers
    profiles: tuple[Profile, ...]
    facts: EngineFacts
    warnings: tuple[str, ...]  # what the builder said


def parse_model(
    options: BuildOptions,
    file: OnnxFile,
    bindings: Bindings,
    default_batch: int,
    plugins: Sequence[PluginOptions] = (),
) -> Job:
    """Parse a model and settle the shapes of its inputs. Libraries of plugins are loaded, which runs them.

    Raises:
        ModelError: the runtime cannot parse it; the message names node, operator, reason and remedy.
        ConfigError: shapes or batch sizes do not fit its inputs.
    """
    log = EngineLog(bindings.module, file.path)
    load_plugins(bindings, log.logger, plugins, options.store / options.name)
    parsed = ParsedNetwork(bindings, log.logger, is_strongly_typed=not bindings.has_precision_flags)
    parsed.parse(file)
    inputs = parsed.inputs
    if options.fixed_batch is not None:
        parsed.fix_shapes(fixed_shapes(inputs, options.fixed_batch))
        profiles: tuple[Profile, ...] = ()
    else:
        profiles = profiles_for(inputs, options.shapes, options.batches, default_batch)
    if options.dla_core is not None:
        check_single(profiles)
    facts = EngineFacts(parsed.inputs, parsed.outputs, largest_batch(parsed.inputs, profiles))
    return Job(options, file, parsed, log, profiles, facts)


def build_plan(job: Job, progress: BuildProgress, open_calibrator: OpenCalibrator | None = None) -> BuiltPlan:
    """Build the engine. Blocks for seconds to many minutes; Ctrl-C ends it at the builder's next step.

    Raises:
        KeyboardInterrupt: it was ended.
        ModelError, OutOfDeviceMemoryError, DeviceError: what the builder says.
        EdgertError: what the calibrator's frames raised, as it was.
    """
    monitor = open_monitor(job.parsed.bindings.module, progress)
    inputs = calibration_inputs(job.facts.inputs, job.profiles)
    opened = open_calibrator(job.parsed.bindings, inputs, progress) if open_calibrator else nullcontext()
    with opened as calibrator:
        config = configure(job.parsed, job.options, job.profiles, monitor, calibrator)
        plan = _run(job, config, progress, calibrator)
    if job.options.timing_cache is not None:
        save_timing_cache(config, job.options.timing_cache)
    source = SourceModel(job.file.path.name, job.file.sha256)
    version = ".".join(map(str, job.parsed.bindings.version))
    warnings = _warnings(job.log.records())
    return BuiltPlan(plan, source, version, job.profiles, job.facts, warnings)


def _run(job: Job, config: Any, progress: BuildProgress, calibrator: Calibrator | None) -> memoryview:
    builder, network = job.parsed.builder, job.parsed.network
    plan = run_cancellable(lambda: builder.build_serialized_network(network, config), progress)
    if calibrator is not None:
        calibrator.raise_failure()  # before the plan: it was built from a part of the frames, if at all
    if plan is None and progress.is_cancelled:
        raise KeyboardInterrupt
    if plan is None:
        raise explain_build(job.file.path, job.log.records(), job.options, job.parsed.bindings.title)
    return memoryview(plan)


def explain_build(file: Path, records: tuple[Record, ...], options: BuildOptions, title: str) -> EdgertError:
    """Return what to raise for a build that failed."""
    causes = tuple(record for record in records if not _ECHO.search(record.text))
    said = " ".join(record.text for record in causes)
    failed = f"{file}: {title} cannot build it"
    if _NO_MEMORY.search(said) and options.workspace_mb is not None:
        return OutOfDeviceMemoryError(
            f"{failed} with a workspace of {options.workspace_mb} MiB. Give more with --workspace-mb, or "
            "leave it out: then the builder may use all memory"
        )
    if _NO_INT8.search(said) and options.precision == "int8":
        return ModelError(
            f"{failed}: it has no INT8 kernel for one of the layers (TensorRT-RTX 1.4 has none for "
            "convolutions, 1.7 has). Build with --runtime tensorrt or a newer release, or the model before "
            "it was quantized with --precision fp16"
        )
    return explain(file, causes, f"{title} cannot build it")


def _warnings(records: tuple[Record, ...]) -> tuple[str, ...]:
    texts = dict.fromkeys(record.text for record in records if record.level == logging.WARNING)
    return tuple(texts)[:_MAX_WARNINGS]
