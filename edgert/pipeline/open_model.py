"""From a model's plan to the model at work: engine, decoder, preparer, lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

import msgspec

from edgert.device.memory import Buffer
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import Engine, EngineInfo
from edgert.execute.noop_engine import NoopEngine
from edgert.models.completion import complete
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.models.store import ModelVersion
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.loaded_model import LoadedModel, Preparer
from edgert.pipeline.model_plan import ModelPlan, has_batch_axis, told_of
from edgert.prepare.skip import SkipPreparer
from edgert.schedule.batcher import BatchPolicy

Allocate = Callable[[int], Buffer]


def open_model(plan: ModelPlan, version: ModelVersion, threads: int, allocate: Allocate) -> LoadedModel:
    """Load one version, check it against its configuration, and run every lane once.

    Raises:
        ModelError: engine, configuration, labels and decoder do not fit together.
        OutOfDeviceMemoryError: the lanes' buffers do not fit.
    """
    with ExitStack() as undo:
        model = build_model(plan, version, threads, allocate)
        undo.callback(model.close)
        model.open_lanes(plan.lanes)
        undo.pop_all()
        return model


def build_model(plan: ModelPlan, version: ModelVersion, threads: int, allocate: Allocate) -> LoadedModel:
    """Load one version and check that all of it fits together, without a lane. Raises ModelError."""
    with ExitStack() as undo:
        engine = load_engine(plan, version, threads, allocate)
        undo.callback(engine.close)
        info = engine.info
        config = complete(plan.entry.config, info.inputs, info.outputs, info.batches)
        image_input = _image_input(plan, config, info)
        views = _views(config, info)
        decoder = plan.open_decoder(_viewed(info, views))
        item_shape = views.get(image_input.name) or image_input.shape[1 if has_batch_axis(info) else 0 :]
        policy = _policy(config, info, is_derived=plan.entry.config.max_batch_size is None)
        model = LoadedModel(
            plan.entry.name,
            version.number,
            engine,
            decoder,
            lambda: _open_preparer(plan, item_shape, image_input.dtype, info.runtime),
            policy,
            image_input,
            views,
        )
        undo.pop_all()
        return model


def load_engine(plan: ModelPlan, version: ModelVersion, threads: int, allocate: Allocate) -> Engine:
    """Load a version's engine file with the runtime that the plan names. Raises ModelError, ConfigError."""
    if plan.runtime == "noop":
        return _noop_engine(plan.entry.config)
    file = plan.entry.engine_file(version)
    if plan.runtime == "onnxruntime":
        try:
            from edgert.execute.onnx_engine import load_onnx_engine  # its import takes a third of a second
        except ImportError as error:
            raise ConfigError(f"{file}: needs onnxruntime. Run: pip install 'edgert[host]'") from error
        return load_onnx_engine(file, plan.settings.engine.threads or threads, allocate)
    raise ConfigError(f"{file}: runtime {plan.runtime!r} is not built into this version of edgert.")


def _noop_engine(config: ModelConfig) -> NoopEngine:
    """Return an engine with the tensors that config.pbtxt states."""
    axis = (-1,) if config.max_batch_size else ()

    def specs(tensors: Iterable[TensorConfig]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(tensor.name, tensor.dtype, axis + tensor.engine_dims) for tensor in tensors)

    return NoopEngine(specs(config.inputs), specs(config.outputs))


def _policy(config: ModelConfig, info: EngineInfo, *, is_derived: bool) -> BatchPolicy:
    batching = config.dynamic_batching
    if info.fixed_batch is not None or not config.max_batch_size:
        return BatchPolicy(info.fixed_batch or 1)
    if batching is None:  # as the Inference Server: frames are gathered only where the file says so
        return BatchPolicy(config.max_batch_size if is_derived else 1)
    delay_ns = batching.max_queue_delay_microseconds * 1000
    return BatchPolicy(config.max_batch_size, batching.preferred_batch_size, delay_ns)


def _views(config: ModelConfig, info: EngineInfo) -> dict[str, tuple[int, ...]]:
    """Return how the tensors look from outside that config.pbtxt reshapes, without the batch axis."""
    reshaped = [tensor for tensor in (*config.inputs, *config.outputs) if tensor.reshape is not None]
    for tensor in reshaped:
        if -1 in tensor.engine_dims or -1 in tensor.dims:
            raise ModelError(
                f"{config.file}: reshape of {tensor.name!r}: found {list(tensor.dims)} and "
                f"{list(tensor.engine_dims)}, expected no variable side"
            )
    if reshaped and has_batch_axis(info) and not config.max_batch_size:
        raise ModelError(
            f"{config.file}: reshape of {reshaped[0].name!r}: found max_batch_size 0, expected 1 or more, as "
            "the engine has a batch axis"
        )
    return {tensor.name: tensor.dims for tensor in reshaped}


def _viewed(info: EngineInfo, views: Mapping[str, tuple[int, ...]]) -> EngineInfo:
    """Return the engine as it looks from outside."""

    def view(spec: TensorSpec) -> TensorSpec:
        shape = (-1,) * info.batches + views[spec.name] if spec.name in views else spec.shape
        return msgspec.structs.replace(spec, shape=shape)

    inputs, outputs = (tuple(map(view, specs)) for specs in (info.inputs, info.outputs))
    return msgspec.structs.replace(info, inputs=inputs, outputs=outputs)


def _image_input(plan: ModelPlan, config: ModelConfig, info: EngineInfo) -> TensorSpec:
    """Return the input that takes the picture, its sides as the configuration narrows them."""
    wanted = plan.settings.prepare.input
    names = [spec.name for spec in info.inputs]
    if len(names) != 1:  # the others edgert could not fill
        raise ModelError(f"Model {plan.entry.name}: inputs are {names}; edgert fills one picture, no others.")
    if wanted is not None and wanted != names[0]:
        raise ModelError(f"Model {plan.entry.name}: [prepare] input is {wanted!r}, the engine has {names}.")
    [spec], [tensor] = info.inputs, config.inputs
    axes = len(spec.shape) - len(tensor.engine_dims)
    return msgspec.structs.replace(spec, shape=spec.shape[:axes] + tensor.engine_dims)


def _open_preparer(plan: ModelPlan, item_shape: tuple[int, ...], dtype: str, runtime: str) -> Preparer:
    if runtime == "noop":
        return SkipPreparer(item_shape)
    from edgert.prepare import convert  # OpenCV only where pictures are prepared

    convert.set_threads(1)  # lanes run side by side
    with told_of(plan.entry.settings.path, "prepare"):
        return convert.Preparer(plan.settings.prepare, item_shape, dtype)
