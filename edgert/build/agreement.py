"""Compares a version of the store with the model that it was built from, or says why that is not done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edgert.build.compare import Comparer, Comparison, Limits, Side
from edgert.build.pictures import prepare_pictures
from edgert.build.subjects import EngineSubject
from edgert.device.board import CudaDriverProbe, probe_cuda_driver
from edgert.device.opened import OpenDevice, open_device
from edgert.errors import ConfigError, DeviceError, EdgertError, ModelError
from edgert.execute.engine import Engine
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelVersion
from edgert.pipeline.model_plan import ModelPlan, has_batch_axis

BATCH = 8  # pictures at a time, if the engine takes them


def obstacle(
    runtime: str, pictures: Sequence[Path], probe: Callable[[], CudaDriverProbe] = probe_cuda_driver
) -> EdgertError | None:
    """Return why a comparison cannot be made here; None if it can."""
    if FAMILY_OF_RUNTIME[runtime] is TENSORRT and probe().version is None:
        return DeviceError("this machine has no GPU to run the engine")
    return None if pictures else ConfigError("no pictures were given (--frames)")


def compare_version(
    plan: ModelPlan, version: ModelVersion, model: Path, pictures: Sequence[Path], limits: Limits
) -> Comparison:
    """Run the version and, with onnxruntime, `model` on the pictures. Blocks for seconds.

    Raises:
        ModelError: the engine cannot be loaded, or takes something else than one picture.
        DeviceError: the device failed.
    """
    from edgert.execute.onnx_engine import load_onnx_engine  # onnxruntime only where it is needed
    from edgert.pipeline.open_model import load_engine

    threads = os.cpu_count() or 1
    with ExitStack() as undo:
        host = _opened(undo, "host")
        device = _opened(undo, "cuda") if FAMILY_OF_RUNTIME[plan.runtime] is TENSORRT else host
        with device.driver.current():
            engine = load_engine(plan, version, device, threads)
        undo.callback(_close, engine, device)
        reference = load_onnx_engine(model, threads, host.driver.allocate)
        undo.callback(reference.close)
        return _compare(plan, (reference, host), (engine, device), pictures, limits, undo)


def as_record(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a manifest holds it."""
    return {"made": True, "near": comparison.is_near, **msgspec.to_builtins(comparison)}


def as_absence(reason: EdgertError) -> dict[str, Any]:
    """Return what a manifest holds if no comparison was made."""
    return {"made": False, "reason": str(reason)}


def _compare(
    plan: ModelPlan,
    reference: tuple[Engine, OpenDevice],
    candidate: tuple[Engine, OpenDevice],
    pictures: Sequence[Path],
    limits: Limits,
    undo: ExitStack,
) -> Comparison:
    info = candidate[0].info
    if len(info.inputs) != 1:
        names = ", ".join(spec.name for spec in info.inputs)
        raise ModelError(f"Model {plan.entry.name} has the inputs {names}; only one picture can be compared.")
    has_axis, [spec] = has_batch_axis(info), info.inputs
    examples = prepare_pictures(plan, spec, pictures, has_batch_axis=has_axis)
    batch = info.fixed_batch or _batch_of(plan)
    old, new = (_side(plan, engine, device, batch, undo) for engine, device in (reference, candidate))
    comparer = Comparer(
        spec.name, has_batch_axis=has_axis, batch=batch, is_fixed=info.fixed_batch is not None
    )
    score_min = float(getattr(plan.settings.decode, "score_min", None) or 0.0)
    return comparer.compare(old, new, examples, score_min, limits)


def _batch_of(plan: ModelPlan) -> int:
    """Return how many pictures to run at once; what config.pbtxt promises, the engine must do."""
    return min(max(plan.entry.config.max_batch_size or 1, 1), BATCH)


def _side(plan: ModelPlan, engine: Engine, device: OpenDevice, batch: int, undo: ExitStack) -> Side:
    decoder = plan.open_decoder(engine.info)
    subject = EngineSubject(engine, device, batch)
    undo.callback(subject.close)
    return Side(subject, decoder)


def _opened(undo: ExitStack, name: Any) -> OpenDevice:
    device = open_device(name)
    undo.callback(device.close)
    return device


def _close(engine: Engine, device: OpenDevice) -> None:
    with device.driver.current():
        engine.close()
