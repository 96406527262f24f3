"""From the command line to what is to be built."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from edgert.build.options import BuildOptions, Reduction, completed
from edgert.build.pictures import list_pictures
from edgert.build.shapes import parse_profile
from edgert.build.target import choose_runtime, find_target, model_name
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import TensorRTRuntime
from edgert.models.store import wrong_with

_PACKAGES = ("onnx", "onnxruntime")


def check_packages(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Raise ConfigError if what reads, converts and compares models is not installed."""
    if missing := [name for name in _PACKAGES if find(name) is None]:
        raise ConfigError(
            f"edgert build needs {' and '.join(missing)}, not found here. Run: pip install 'edgert[build]'"
        )


def read_request(arguments: argparse.Namespace) -> Iterator[BuildOptions]:
    """Yield what is to be built: one engine, or one for each batch size. Raises ConfigError."""
    if arguments.model is None:
        raise ConfigError("edgert build: expected MODEL.onnx, or --rollback MODEL")
    _check(arguments)
    name = arguments.name or model_name(arguments.model, arguments.store)
    _check_place(arguments.store, name)
    target = find_target(arguments.store, name, arguments.like)
    options = _options(arguments, name, arguments.runtime or choose_runtime(target.entry))
    if not arguments.engine_per_batch:
        yield completed(options)
        return
    like = arguments.like or (name if target.entry else "")
    for size in arguments.batch:
        yield completed(
            msgspec.structs.replace(options, name=f"{name}-b{size}", like=like, batches=(), fixed_batch=size)
        )


def _options(arguments: argparse.Namespace, name: str, runtime: TensorRTRuntime) -> BuildOptions:
    return BuildOptions(
        model=arguments.model,
        store=arguments.store,
        name=name,
        runtime=runtime,
        like=arguments.like,
        precision=arguments.precision,
        batches=arguments.batch,
        shapes=tuple(map(parse_profile, arguments.shapes)),
        workspace_mb=arguments.workspace_mb,
        version_compatible=arguments.version_compatible,
        hardware_compatibility=arguments.hardware_compatible or "none",
        timing_cache=arguments.timing_cache,
        calibration_cache=arguments.calibration_cache,
        dla_core=arguments.dla_core,
        reduction=_reduction(arguments),
        compute=arguments.compute,
        frames=list_pictures(arguments.frames),
        tolerance=arguments.tolerance,
        forced=arguments.force,
        keep_previous=arguments.keep_previous,
    )


def _reduction(arguments: argparse.Namespace) -> Reduction | None:
    if arguments.top_k is None:
        if arguments.boxes or arguments.scores:
            raise ConfigError("--boxes and --scores are for --top-k N, which is not given")
        return None
    return Reduction(arguments.top_k, arguments.boxes, arguments.scores)


def _check_place(store: Path, name: str) -> None:
    """Refuse now what would fail after the build, minutes later."""
    if wrong := wrong_with(name):
        raise ConfigError(f"--name {name!r}: {wrong}")
    if not store.is_dir() and not store.absolute().parent.is_dir():
        raise ConfigError(f"--store {store}: no such folder, and none that it could be made in")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.engine_per_batch and not arguments.batch:
        raise ConfigError("--engine-per-batch: expected the sizes too, e.g. --batch 1,4,8")
    if arguments.shapes and arguments.batch:
        raise ConfigError("--shapes and --batch both say which batches the engine takes; give one of them")
    if arguments.dla_core is not None and arguments.dla_core < 0:
        raise ConfigError(f"--dla-core {arguments.dla_core}: expected 0 or more")
