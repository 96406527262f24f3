"""Which runtime executes a model: what edgert.toml says, else config.pbtxt, else the engine file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgert.config import Document
from edgert.errors import ModelError
from edgert.models.model_config import ModelConfig


class Family(msgspec.Struct, frozen=True):
    """What the Inference Server calls a kind of engine, and how its files are named; the default first."""

    platform: str
    backend: str
    filename: str
    suffixes: tuple[str, ...]


TENSORRT = Family("tensorrt_plan", "tensorrt", "model.plan", (".plan", ".engine", ".trt"))
ONNX = Family("onnxruntime_onnx", "onnxruntime", "model.onnx", (".onnx", ".ort"))
PYTHON = Family("", "python", "model.py", (".py",))
NOOP = Family("", "", "", ())
ENSEMBLE = "ensemble"  # the platform of what runs other models

FAMILY_OF_RUNTIME = {
    "tensorrt": TENSORRT,
    "tensorrt_lean": TENSORRT,
    "tensorrt_dispatch": TENSORRT,
    "tensorrt_rtx": TENSORRT,
    "onnxruntime": ONNX,
    "python": PYTHON,
    "noop": NOOP,
}
_BY_PLATFORM = {family.platform: family for family in (TENSORRT, ONNX)}
_BY_BACKEND = {family.backend: family for family in (TENSORRT, ONNX, PYTHON)}


def runtime_of(config: ModelConfig, settings: Document, engine_file: Path | None = None) -> str:
    """Return the runtime's name, a key of `FAMILY_OF_RUNTIME`.

    Raises:
        ModelError: what is stated is not one of them, contradicts itself, or nothing tells.
    """
    runtime = stated_runtime(config, settings)
    suffix = engine_file.suffix.lower() if engine_file else ""
    known = [name for name, family in FAMILY_OF_RUNTIME.items() if suffix in family.suffixes]
    if runtime or known:
        return runtime or known[0]
    raise ModelError(
        f"{config.file}: neither platform nor backend is given, and {engine_file or 'no engine file'} "
        f"does not tell. Give platform: {_quoted(TENSORRT.platform)} or {_quoted(ONNX.platform)}, "
        f"backend: {_quoted(PYTHON.backend)}, or [engine] runtime in {settings.path}"
    )


def stated_runtime(config: ModelConfig, settings: Document) -> str:
    """Return what edgert.toml or else config.pbtxt states; empty if neither does. Raises ModelError."""
    engine = settings.tree.get("engine", {})
    runtime = engine.get("runtime", "") if isinstance(engine, dict) else ""
    if not runtime:
        return _runtime_of_platform(config)
    if not isinstance(runtime, str) or runtime not in FAMILY_OF_RUNTIME:
        raise ModelError(
            f"{settings.path}: engine.runtime = {runtime!r}: expected one of {', '.join(FAMILY_OF_RUNTIME)}"
        )
    return runtime


def platform_of(runtime: str) -> tuple[str, str]:
    """Return the Inference Server's platform and backend of a runtime; empty for one it does not have."""
    family = FAMILY_OF_RUNTIME.get(runtime, NOOP)
    return family.platform, family.backend


def family_of(config: ModelConfig) -> Family | None:
    """Return the family that platform or backend names; None if they name none that is known."""
    return _BY_PLATFORM.get(config.platform) or _BY_BACKEND.get(config.backend)


def _runtime_of_platform(config: ModelConfig) -> str:
    if config.platform == ENSEMBLE:
        raise ModelError(
            f"{config.file}: field platform: found {ENSEMBLE!r}, which has no engine: it answers requests "
            "and is fed no frames"
        )
    platform = _BY_PLATFORM.get(config.platform)
    backend = _BY_BACKEND.get(config.backend)
    if config.platform and not platform:
        raise _unsupported(config, "platform", config.platform, [*_BY_PLATFORM, ENSEMBLE])
    if config.backend and not backend:
        raise _unsupported(config, "backend", config.backend, list(_BY_BACKEND))
    if platform and backend and platform is not backend:
        raise _unsupported(config, "backend", config.backend, [platform.backend])
    family = platform or backend
    return family.backend if family else ""


def _unsupported(config: ModelConfig, field: str, found: str, expected: list[str]) -> ModelError:
    return ModelError(
        f"{config.file}: field {field}: found {found!r}, expected {' or '.join(map(_quoted, expected))}"
    )


def _quoted(text: str) -> str:
    return f'"{text}"'
