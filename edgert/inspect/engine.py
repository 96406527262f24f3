"""One engine: what its file says without a runtime, and what its runtime says of it here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edgert.device.opened import DeviceName, OpenDevice, open_device
from edgert.errors import EdgertError, ModelError
from edgert.execute.engine import Engine, EngineDetails, EngineInfo
from edgert.models.manifest import Manifest, check_manifest, read_manifest
from edgert.models.plan_header import PlanHeader, read_plan_header

Report = dict[str, Any]


def report_plan(file: Path, load: Callable[[OpenDevice], Engine]) -> Report:
    """Return header and manifest of a file for TensorRT, and what `report_engine` returns of it on the GPU.

    Header and manifest need no GPU and no runtime. A file with a manifest is read whole.
    """
    report: Report = {}
    try:
        report["header"] = _header(read_plan_header(file))
        manifest = read_manifest(file)
        report["manifest"] = msgspec.to_builtins(manifest)
        if manifest is not None:
            _check_intact(manifest, file)
    except ModelError as error:
        return report | {"runs_here": str(error)}
    return report | report_engine("cuda", load)


def report_engine(device_name: DeviceName, load: Callable[[OpenDevice], Engine]) -> Report:
    """Load an engine on a device, and return its tensors and details, or why it does not run here."""
    try:
        with ExitStack() as undo:
            device = open_device(device_name)
            undo.callback(device.close)
            undo.enter_context(device.driver.current())
            engine = load(device)
            undo.callback(engine.close)
            return {"runs_here": True, **_tensors(engine.info), **_details(engine.details())}
    except (EdgertError, ImportError) as error:
        return {"runs_here": str(error)}


def _check_intact(manifest: Manifest, file: Path) -> None:
    """Hold the file against its own manifest's runtime and any device, so that only its hash can disagree."""
    built_by = tuple(map(int, manifest.runtime_version.split(".")))
    check_manifest(manifest, file, manifest.runtime, built_by, None)


def _header(header: PlanHeader) -> Report:
    version = ".".join(map(str, header.version)) or "unknown"
    return {**msgspec.to_builtins(header), "version": version}


def _tensors(info: EngineInfo) -> Report:
    sides = (("inputs", info.inputs), ("outputs", info.outputs))
    return {
        side: [f"{spec.name} {spec.dtype} {shape_text(spec.shape)}" for spec in specs]
        for side, specs in sides
    }


def _details(details: EngineDetails) -> Report:
    """Return the details; empty where the runtime says nothing."""
    return {"engine": msgspec.to_builtins(details)} if details != EngineDetails() else {}


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape for people; -1 is variable."""
    return "x".join("?" if side < 0 else str(side) for side in shape) or "scalar"
