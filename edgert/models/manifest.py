"""What is known of an engine file since it was built: `<engine file>.manifest.json` beside it.

TensorRT loads a file in which a bit has flipped without complaint, so only the hash notices that. The hash
says that the file is the one that was built, not that whoever wrote both files can be trusted.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgert.disk import replace_file
from edgert.errors import EngineMismatchError, ModelError

MANIFEST_SUFFIX = ".manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_FIRST_AMPERE = (8, 0)
_TITLES = {
    "tensorrt": "TensorRT",
    "tensorrt_lean": "TensorRT (lean)",
    "tensorrt_dispatch": "TensorRT (dispatch)",
    "tensorrt_rtx": "TensorRT-RTX",
}

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+){2,3}$")]
Capability = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.[0-9]+$")]
Sides = tuple[int, ...]


class ShapeRange(msgspec.Struct, frozen=True, rename={"minimum": "min", "optimum": "opt", "maximum": "max"}):
    """The shapes of one input that a profile covers, batch axis included."""

    minimum: Sides
    optimum: Sides
    maximum: Sides


class SourceModel(msgspec.Struct, frozen=True):
    """What the engine was built from."""

    name: str  # the file's name, without its folder
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One engine file. Keys that this version of edgert does not know are ignored when it is read."""

    schema: Literal["edgert.manifest/1"] = "edgert.manifest/1"
    plan_sha256: Sha256
    plan_bytes: Annotated[int, msgspec.Meta(ge=1)]
    runtime: Literal["tensorrt", "tensorrt_rtx"]  # what built it
    runtime_version: Version  # e.g. 10.3.0.30
    compute_capabilities: tuple[Capability, ...] = ()  # built for these; empty: for any
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = "none"
    version_compatible: bool = False  # newer versions may run it
    needs_host_code: bool = False  # it carries a lean runtime, which the loader must be allowed to run
    built_utc: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    source: SourceModel
    precision: str = ""  # for people, e.g. fp16
    profiles: tuple[dict[str, ShapeRange], ...] = ()  # by the inputs' names
    options: dict[str, Any] = {}  # what `edgert build` was asked for
    plugins: dict[str, Sha256] = {}  # libraries that it needs
    agreement: dict[str, Any] = {}  # how near its outputs came to the source model's


def manifest_path(plan_file: Path) -> Path:
    """Return where the manifest of an engine file is, if it has one."""
    return plan_file.with_name(plan_file.name + MANIFEST_SUFFIX)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading it in pieces. Raises ModelError."""
    digest = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def write_manifest(plan_file: Path, manifest: Manifest) -> Path:
    """Write the manifest beside its engine and return its path. A reader sees the old one or the new one.

    Raises:
        ModelError: the folder cannot be written.
    """
    path = manifest_path(plan_file)
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    except OSError as error:
        raise ModelError(f"{path}: the manifest cannot be written: {error.strerror}") from error
    return path


def read_manifest(plan_file: Path) -> Manifest | None:
    """Return the manifest of an engine file, None if it has none. Raises ModelError if it is not one."""
    path = manifest_path(plan_file)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: the manifest cannot be read: {error.strerror}") from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelError(f"{path}: not a manifest: expected at most {MAX_MANIFEST_BYTES} bytes")
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        remedy = f"Build the engine again, or remove this file to load {plan_file.name} unchecked"
        raise ModelError(f"{path}: not a manifest that edgert knows: {error}. {remedy}") from error


def check_manifest(
    manifest: Manifest,
    plan_file: Path,
    runtime: str,
    runtime_version: tuple[int, ...],
    compute_capability: str | None,
) -> None:
    """Check that the engine is the one that was built, and that it was built for this device.

    Reads the whole file. `runtime` is a name of edgert.toml; `compute_capability` is None or empty where
    there is no device.

    Raises:
        ModelError: the file is damaged or was replaced.
        EngineMismatchError: it was built for another runtime, version or device.
    """
    check_content(manifest, plan_file)
    complaint = (
        _runtime_complaint(manifest, runtime)
        or _version_complaint(manifest, runtime_version)
        or _device_complaint(manifest, compute_capability)
    )
    if complaint:
        running = f"{_TITLES.get(runtime, runtime)} {_short(runtime_version)}"
        device = f"this device is {compute_capability} with" if compute_capability else "here is"
        raise EngineMismatchError(
            f"{plan_file}: was built for compute {' or '.join(manifest.compute_capabilities) or 'any'} with "
            f"{_TITLES[manifest.runtime]} {_short(_numbers(manifest.runtime_version))}; {device} {running}: "
            f"{complaint}. Run: {_build_command(plan_file)}"
        )


def check_content(manifest: Manifest, plan_file: Path) -> None:
    """Raise ModelError if the plan is not the file that was built. Reads all of it."""
    try:
        size_bytes = plan_file.stat().st_size
    except OSError as error:
        raise ModelError(f"{plan_file}: the engine cannot be read: {error.strerror}") from error
    found, expected = f"{size_bytes} bytes", f"{manifest.plan_bytes} bytes"
    if size_bytes == manifest.plan_bytes:
        found, expected = f"SHA-256 {sha256_of(plan_file)}", f"SHA-256 {manifest.plan_sha256}"
    if found != expected:
        raise ModelError(
            f"{plan_file}: the engine is damaged or was replaced: found {found}, its manifest says "
            f"{expected}. Copy both files again, or run: {_build_command(plan_file)}"
        )


def _runtime_complaint(manifest: Manifest, runtime: str) -> str:
    if (manifest.runtime == "tensorrt_rtx") != (runtime == "tensorrt_rtx"):
        return "neither runs engines of the other"
    if runtime in ("tensorrt_lean", "tensorrt_dispatch") and not manifest.version_compatible:
        return "this runtime needs an engine that is built version-compatible"
    return ""


def _version_complaint(manifest: Manifest, running: tuple[int, ...]) -> str:
    """Say why the version does not fit. The rules are NVIDIA's, page Engine Compatibility of 11.1 and RTX."""
    built = _numbers(manifest.runtime_version)
    if manifest.version_compatible and manifest.runtime == "tensorrt":
        return _compatible_complaint(built, running)
    if built[:3] != running[:3]:
        return "an engine runs only with the version that built it"
    return ""


def _compatible_complaint(built: tuple[int, ...], running: tuple[int, ...]) -> str:
    """Say why a version-compatible engine does not fit: it moves forward, by one major at most.

    TensorRT 10 runs those of 8.6 too, as there was no public 9.
    """
    if running[:3] < built[:3]:
        return "a version-compatible engine runs with its own version or a later one"
    oldest = {10: 8}.get(running[0], running[0] - 1)
    return "the major versions are too far apart" if built[0] < oldest else ""


def _device_complaint(manifest: Manifest, capability: str | None) -> str:
    """Say why the device does not fit.

    TensorRT-RTX finishes compiling on the device: an engine for 8.0 was seen to run on 9.0.
    """
    built_for = [_numbers(each) for each in manifest.compute_capabilities]
    if not capability or not built_for:
        return ""
    here = _numbers(capability)
    if manifest.hardware_compatibility == "ampere_plus":
        return "" if here >= _FIRST_AMPERE else "the engine needs compute 8.0 or later"
    if manifest.runtime == "tensorrt_rtx":
        return "" if here >= min(built_for) else "the engine needs a later device"
    return "" if here in built_for else "the engine runs only on the compute capability it was built for"


def _build_command(plan_file: Path) -> str:
    return f"edgert build MODEL.onnx --store {plan_file.parents[2]} --name {plan_file.parents[1].name}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _short(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:3]))
