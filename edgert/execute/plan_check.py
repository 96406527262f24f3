"""What can be said of a plan without a GPU: who built it, and whether it is the file that was built."""

from __future__ import annotations

from pathlib import Path

from edgert.errors import EngineMismatchError, ModelError
from edgert.execute.options import EngineOptions
from edgert.execute.tensorrt_bindings import Bindings
from edgert.models.manifest import Manifest, read_manifest
from edgert.models.plan_header import PlanHeader, read_plan_header

_FAMILY_OF_RUNTIME = {
    "tensorrt": "tensorrt",
    "tensorrt_lean": "tensorrt",
    "tensorrt_dispatch": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
}


def check_plan_file(file: Path, runtime: str, options: EngineOptions) -> tuple[PlanHeader, Manifest | None]:
    """Return what header and manifest say.

    Raises:
        EngineMismatchError: the plan is for another runtime.
        ModelError: it is damaged, or has no manifest where one is required.
    """
    header = read_plan_header(file)
    if header.family != _FAMILY_OF_RUNTIME[runtime]:
        raise EngineMismatchError(
            f"{file} was built by {header.family} {'.'.join(map(str, header.version))}; the model's "
            f'runtime is {runtime}. Set [engine] runtime = "{header.family}" in edgert.toml, or build it '
            "again: edgert build"
        )
    manifest = read_manifest(file)
    if manifest is None and options.manifest_required:
        raise ModelError(f"{file} has no manifest, and manifest_required is set. Build it with: edgert build")
    return header, manifest


def check_version(file: Path, header: PlanHeader, bindings: Bindings) -> None:
    """Refuse a plan of TensorRT-RTX that another release built; TensorRT's own says so itself.

    Raises:
        EngineMismatchError: naming both releases.
    """
    if header.family == "tensorrt_rtx" and header.version[:3] != bindings.version[:3]:
        built_by = ".".join(map(str, header.version))
        raise EngineMismatchError(
            f"{file} was built by TensorRT-RTX {built_by}; here is {bindings.title}. Run: edgert build"
        )
