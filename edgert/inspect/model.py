"""What is in a model's folder or in an engine file, and whether this machine can run it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgert.device.opened import OpenDevice
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import Engine
from edgert.execute.options import EngineOptions
from edgert.exit_codes import ExitCode
from edgert.inspect.calibration import report_calibration
from edgert.inspect.engine import Report, report_engine, report_plan
from edgert.inspect.ensemble import report_ensemble
from edgert.inspect.text import people_lines
from edgert.models.plan_header import read_plan_header
from edgert.models.runtime import FAMILY_OF_RUNTIME, ONNX, TENSORRT
from edgert.models.store import ModelStore, ModelVersion
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import load_engine


def inspect_path(path: Path, *, as_json: bool, with_layers: bool = False) -> ExitCode:
    """Print what a model's folder or an engine file holds; JSON has the layers always.

    Raises:
        ConfigError: it is neither.
    """
    if path.is_dir():
        report = _inspect_model(path.resolve())
    elif path.is_file():
        report = _inspect_file(path.resolve())
    else:
        raise ConfigError(f"{path}: no such file or folder")
    lines = [json.dumps(report, indent=2)] if as_json else people_lines(report, with_layers=with_layers)
    if with_layers and not as_json and (note := _no_layers(report)):
        lines.append(note)
    print("\n".join(lines))
    return ExitCode.OK if report["runs_here"] is True else ExitCode.MODEL


def _no_layers(report: Report) -> str:
    """Say why no layers are listed, if the runtime never tells any."""
    runtime = report.get("runtime", "")
    if not runtime or FAMILY_OF_RUNTIME[runtime] is TENSORRT:
        return ""
    return f"layers: {runtime} tells none; --layers is for plans of TensorRT"


def _inspect_model(folder: Path) -> Report:
    store = ModelStore(folder.parent)
    entry = store.entry(folder.name)
    if entry.config.ensemble is not None:
        return report_ensemble(store, entry, entry.config.ensemble)
    plan = plan_model(entry, {}, folder / "edgert.toml")
    versions = {str(version.number): _inspect_version(plan, version) for version in entry.chosen_versions()}
    return {
        "model": entry.name,
        "runtime": plan.runtime,
        "lanes": plan.lanes,
        "versions_present": [version.number for version in entry.versions()],
        **_settings(plan),
        "versions": versions,
        "runs_here": all(version["runs_here"] is True for version in versions.values()),
    }


def _settings(plan: ModelPlan) -> Report:
    """Return the settings and warnings.

    A model in Python mostly takes requests: what frames need counts only where edgert.toml has it.
    """
    settings: dict[str, Any] = msgspec.to_builtins(plan.settings)
    stated = plan.entry.settings
    if plan.runtime != "python" or {"prepare", "decode"} & stated.tree.keys():
        return {"settings": settings, "warnings": plan.warnings()}
    told = [warning for warning in plan.warnings() if not warning.startswith(f"{stated.path}:")]
    return {
        "settings": {key: table for key, table in settings.items() if key not in ("prepare", "decode")},
        "warnings": told,
    }


def _inspect_version(plan: ModelPlan, version: ModelVersion) -> Report:
    load = partial(load_engine, plan, version, threads=1)
    try:
        file = plan.entry.engine_file(version)
    except ModelError as error:
        return {"runs_here": str(error)}
    is_plan = FAMILY_OF_RUNTIME[plan.runtime] is TENSORRT
    report = report_plan(file, load) if is_plan else report_engine("host", load)
    return report | report_calibration(file)


def _inspect_file(file: Path) -> Report:
    report: Report = {"file": str(file), "bytes": file.stat().st_size, **report_calibration(file)}
    suffix = file.suffix.lower()
    if suffix in ONNX.suffixes:
        return report | {"runtime": "onnxruntime"} | report_engine("host", partial(_load_onnx, file))
    if suffix in TENSORRT.suffixes:
        return report | report_plan(file, partial(_load_tensorrt, file))
    return report | {"runs_here": f"{suffix or 'a file without suffix'} is no engine file that edgert knows"}


def _load_onnx(file: Path, device: OpenDevice) -> Engine:
    from edgert.execute.onnx_engine import load_onnx_engine

    return load_onnx_engine(file, 1, device.driver.allocate)


def _load_tensorrt(file: Path, device: OpenDevice) -> Engine:
    from edgert.execute.tensorrt_engine import load_tensorrt_engine

    return load_tensorrt_engine(file, read_plan_header(file).family, EngineOptions(), device, "inspect")
