"""What is measured: a model of a store, a model's folder, or an engine file alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from edgert.device.opened import DeviceName, OpenDevice
from edgert.errors import ConfigError
from edgert.execute.engine import Engine, EngineInfo, LaneOptions
from edgert.execute.options import EngineOptions, Runtime
from edgert.models.completion import complete
from edgert.models.model_config import ModelConfig
from edgert.models.plan_header import read_plan_header
from edgert.models.runtime import FAMILY_OF_RUNTIME, ONNX, TENSORRT
from edgert.models.store import SETTINGS_FILE, ModelStore
from edgert.perf.options import PerfOptions, Shape
from edgert.pipeline.model_plan import plan_model
from edgert.pipeline.open_model import load_engine
from edgert.prepare.options import PrepareOptions

Load = Callable[[OpenDevice, int], Engine]  # CPU threads a lane


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that can be loaded, and what its model says of it."""

    title: str
    file: Path  # the engine; a folder where the runtime has no file
    runtime: Runtime
    load: Load
    config: ModelConfig | None = None
    prepare: PrepareOptions = PrepareOptions()
    lanes: int = 1
    engine: EngineOptions = EngineOptions()

    @property
    def device(self) -> DeviceName:
        """The device that the runtime needs."""
        return "cuda" if FAMILY_OF_RUNTIME[self.runtime] is TENSORRT else "host"

    def lane_options(self, options: PerfOptions) -> LaneOptions:
        """Return how the lanes are opened: as the model says, but for what was asked for."""
        graphs = self.engine.graphs
        if options.graphs is not None:
            graphs = (graphs or EngineOptions().graphs) if options.graphs else 0
        return LaneOptions(graphs, self.engine.priority, self.engine.scratch_group, options.device_times)


class InputShapes(msgspec.Struct, frozen=True):
    """What a model's configuration adds to its engine's inputs, by name."""

    narrowed: Mapping[str, Shape]  # whole shapes, with fewer open sides
    viewed: Mapping[str, Shape]  # how the preparation sees one item that the engine has in another shape


def find_target(options: PerfOptions) -> Target:
    """Return what the command line names.

    Raises:
        ConfigError: there is no such model, folder or file, or the runtime cannot load such a file.
        ModelError: the store describes the model wrongly.
    """
    path = Path(options.model)
    if options.store is not None:
        return _of_model(ModelStore(options.store), options.model, options)
    if path.is_dir():
        folder = path.resolve()
        return _of_model(ModelStore(folder.parent), folder.name, options)
    if path.is_file():
        return _of_file(path, options)
    raise ConfigError(
        f"{path}: no such folder or file. Give a model's folder, an engine file, or a name with --store"
    )


def input_shapes(target: Target, info: EngineInfo) -> InputShapes:
    """Return what config.pbtxt says of the inputs. Raises ModelError if it does not fit the engine."""
    if target.config is None:
        return InputShapes({}, {})
    tensors = complete(target.config, info.inputs, info.outputs, info.batches).inputs
    shapes = {spec.name: spec.shape for spec in info.inputs}
    narrowed = {
        tensor.name: shapes[tensor.name][: len(shapes[tensor.name]) - len(tensor.engine_dims)]
        + tensor.engine_dims
        for tensor in tensors
    }
    return InputShapes(
        narrowed, {tensor.name: tensor.dims for tensor in tensors if tensor.reshape is not None}
    )


def _of_model(store: ModelStore, name: str, options: PerfOptions) -> Target:
    entry = store.entry(name)
    asked = {"runtime": options.runtime, "threads": options.threads}
    overrides: dict[str, Any] = {"engine": {key: value for key, value in asked.items() if value}}
    plan = plan_model(entry, overrides, entry.folder / SETTINGS_FILE)
    version = plan.entry.chosen_versions()[-1]
    return Target(
        title=f"{name}/{version.number}",
        file=plan.entry.engine_file(version),
        runtime=cast("Runtime", plan.runtime),
        load=partial(load_engine, plan, version),
        config=plan.entry.config,
        prepare=plan.settings.prepare,
        lanes=plan.lanes,
        engine=plan.settings.engine,
    )


def _of_file(file: Path, options: PerfOptions) -> Target:
    runtime = options.runtime or _runtime_of(file)
    suffixes = FAMILY_OF_RUNTIME[runtime].suffixes
    if file.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{file}: --runtime {runtime} loads {' or '.join(suffixes) or 'no'} files, found {file.suffix!r}"
        )
    return Target(title=file.name, file=file, runtime=runtime, load=partial(_load_file, file, runtime))


def _runtime_of(file: Path) -> Runtime:
    suffix = file.suffix.lower()
    if suffix in ONNX.suffixes:
        return "onnxruntime"
    if suffix in TENSORRT.suffixes:
        return read_plan_header(file).family
    known = ", ".join((*TENSORRT.suffixes, *ONNX.suffixes))
    raise ConfigError(f"{file}: not an engine file that edgert knows; expected one of {known}")


def _load_file(file: Path, runtime: Runtime, device: OpenDevice, threads: int) -> Engine:
    if runtime == "noop":
        raise ConfigError("--runtime noop: it has no engine file; give a model's folder")
    if runtime == "onnxruntime":
        try:
            from edgert.execute.onnx_engine import load_onnx_engine
        except ImportError as error:
            raise ConfigError(f"{file}: needs onnxruntime. Run: pip install 'edgert[host]'") from error
        return load_onnx_engine(file, threads, device.driver.allocate)
    from edgert.execute.tensorrt_engine import load_tensorrt_engine

    return load_tensorrt_engine(file, runtime, EngineOptions(), device, f"model {file.name}")
