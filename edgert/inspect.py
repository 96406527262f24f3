"""`edgert inspect`: what is in a model, and whether this machine can run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from edgert.device.host import HostDriver
from edgert.errors import ConfigError, EdgertError
from edgert.execute.engine import EngineInfo
from edgert.exit_codes import ExitCode
from edgert.models.store import ModelStore, ModelVersion
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import load_engine


def inspect_path(path: Path, *, as_json: bool) -> ExitCode:
    """Print what a model's folder or an engine file holds. Raises ConfigError if it is neither."""
    if path.is_dir():
        report = _inspect_model(path.resolve())
    elif path.is_file():
        report = _inspect_file(path.resolve())
    else:
        raise ConfigError(f"{path}: no such file or folder")
    print(json.dumps(report, indent=2) if as_json else "\n".join(_lines(report)))
    return ExitCode.OK if report["runs_here"] is True else ExitCode.MODEL


def _inspect_model(folder: Path) -> dict[str, Any]:
    entry = ModelStore(folder.parent).entry(folder.name)
    plan = plan_model(entry, {}, folder / "edgert.toml")
    versions = {str(version.number): _inspect_version(plan, version) for version in entry.chosen_versions()}
    return {
        "model": entry.name,
        "runtime": plan.runtime,
        "lanes": plan.lanes,
        "versions_present": [version.number for version in entry.versions()],
        "settings": msgspec.to_builtins(plan.settings),
        "warnings": plan.warnings(),
        "versions": versions,
        "runs_here": all(version["runs_here"] is True for version in versions.values()),
    }


def _inspect_version(plan: ModelPlan, version: ModelVersion) -> dict[str, Any]:
    try:
        engine = load_engine(plan, version, 1, HostDriver().allocate)
    except EdgertError as error:
        return {"runs_here": str(error)}
    try:
        return {"runs_here": True, **_tensors(engine.info)}
    finally:
        engine.close()


def _inspect_file(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"file": str(file), "bytes": file.stat().st_size}
    if file.suffix != ".onnx":
        return report | {
            "runs_here": f"{file.suffix or 'a file without suffix'} is no engine file that edgert knows"
        }
    from edgert.execute.onnx_engine import load_onnx_engine

    try:
        engine = load_onnx_engine(file, 1, HostDriver().allocate)
    except EdgertError as error:
        return report | {"runs_here": str(error)}
    try:
        return report | {"runtime": engine.info.runtime, "runs_here": True, **_tensors(engine.info)}
    finally:
        engine.close()


def _tensors(info: EngineInfo) -> dict[str, Any]:
    return {
        side: [f"{spec.name} {spec.dtype} {_shape(spec.shape)}" for spec in specs]
        for side, specs in (("inputs", info.inputs), ("outputs", info.outputs))
    }


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join("?" if side < 0 else str(side) for side in shape) or "scalar"


def _lines(value: Any, indent: str = "") -> list[str]:
    """Return a tree as indented lines, `key: value`."""
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        else:
            text = ", ".join(map(str, item)) or "none" if isinstance(item, list) else item
            lines.append(f"{indent}{key}: {text}")
    return lines
