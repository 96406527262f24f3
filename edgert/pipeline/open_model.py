"""From a model's plan to the model at work: engine, decoder, preparer, lanes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec

from edgert.device.opened import OpenDevice, open_device
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import Engine, EngineInfo, LaneOptions
from edgert.execute.noop_engine import NoopEngine
from edgert.models.completion import complete
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelVersion
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.fill import DeviceFiller, DevicePreparer, Filler, HostFiller, InputLayout, Preparer
from edgert.pipeline.loaded_model import LoadedModel
from edgert.pipeline.model_plan import ModelPlan, has_batch_axis, told_of
from edgert.pipeline.shared_engines import LoadEngine
from edgert.prepare.skip import SkipPreparer
from edgert.prepare.upload import Uploader
from edgert.schedule.batcher import BatchPolicy

if TYPE_CHECKING:
    from edgert.execute.tensorrt_bindings import TensorRTRuntime


def open_model(
    plan: ModelPlan,
    version: ModelVersion,
    device: OpenDevice,
    threads: int,
    load: LoadEngine | None = None,
) -> LoadedModel:
    """Load one version, check it against its configuration, and run every lane once.

    `load` takes the place of `load_engine`.

    Raises:
        ModelError: engine, configuration, labels and decoder do not fit together.
        OutOfDeviceMemoryError: the lanes' buffers do not fit.
    """
    with ExitStack() as undo:
        model = build_model(plan, version, device, threads, load)
        undo.callback(model.close)
        with device.driver.current():
            model.open_lanes(plan.lanes)
        undo.pop_all()
        return model


def build_model(
    plan: ModelPlan,
    version: ModelVersion,
    device: OpenDevice,
    threads: int,
    load: LoadEngine | None = None,
) -> LoadedModel:
    """Load one version and check that all of it fits together, without a lane. Raises ModelError."""
    with ExitStack() as undo:
        engine = (load or load_engine)(plan, version, device, threads)
        undo.callback(engine.close)
        info = engine.info
        config = complete(plan.entry.config, info.inputs, info.outputs, info.batches)
        image_input = _image_input(plan, config, info)
        views = _views(config, info)
        decoder = plan.open_decoder(_viewed(info, views))
        item_shape = views.get(image_input.name) or image_input.shape[1 if has_batch_axis(info) else 0 :]
        policy = _policy(config, info, is_derived=plan.entry.config.max_batch_size is None)
        layout = _input_layout(plan, info, image_input, item_shape, policy)
        model = LoadedModel(
            plan.entry.name,
            version.number,
            engine,
            decoder,
            partial(_open_filler, plan, layout, engine, device),
            policy,
            views,
            lane_options_of(plan),
        )
        undo.pop_all()
        return model


def load_engine(plan: ModelPlan, version: ModelVersion, device: OpenDevice, threads: int) -> Engine:
    """Load a version's engine file with the runtime that the plan names. Raises ModelError, ConfigError."""
    if plan.runtime == "noop":
        return _noop_engine(plan.entry.config)
    file = plan.engine_file(version, device)
    owner = device.owner_of(f"model {plan.entry.name}/{version.number}")
    if plan.runtime == "onnxruntime":
        try:
            from edgert.execute.onnx_engine import load_onnx_engine  # its import takes a third of a second
        except ImportError as error:
            raise ConfigError(f"{file}: needs onnxruntime. Run: pip install 'edgert[host]'") from error
        allocate = partial(device.driver.allocate, owner=owner)
        return load_onnx_engine(file, plan.settings.engine.threads or threads, allocate)
    if plan.runtime == "python":
        from edgert.execute.python_engine import load_python_engine

        return load_python_engine(file, plan.entry, version, partial(device.driver.allocate, owner=owner))
    from edgert.execute.tensorrt_engine import load_tensorrt_engine

    return load_tensorrt_engine(
        file, cast("TensorRTRuntime", plan.runtime), plan.settings.engine, device, owner
    )


def check_model(plan: ModelPlan, version: ModelVersion) -> None:
    """Check that a version's parts fit together, without a GPU.

    An engine of the host is loaded for it; of one for a GPU header, manifest and hash are checked.
    """
    if FAMILY_OF_RUNTIME[plan.runtime] is TENSORRT:
        from edgert.execute.plan_check import check_plan_file  # with what it needs, only for these
        from edgert.models.manifest import check_content

        for file in plan.engine_files(version):
            _, manifest = check_plan_file(file, plan.runtime, plan.settings.engine)
            if manifest is not None:
                check_content(manifest, file)
        return
    device = open_device("host")
    build_model(plan, version, device, 1).close()


def lane_options_of(plan: ModelPlan) -> LaneOptions:
    """Return what edgert.toml says of the model's lanes."""
    engine = plan.settings.engine
    return LaneOptions(engine.graphs, engine.priority, engine.scratch_group)


def _input_layout(
    plan: ModelPlan,
    info: EngineInfo,
    image_input: TensorSpec,
    item_shape: tuple[int, ...],
    policy: BatchPolicy,
) -> InputLayout:
    first = 1 if has_batch_axis(info) else 0
    return InputLayout(
        plan.entry.name,
        image_input.name,
        image_input.dtype,
        item_shape,
        image_input.shape[first:],
        has_batch_axis(info),
        policy.max_batch,
        info.batches,
    )


def _open_filler(plan: ModelPlan, layout: InputLayout, engine: Engine, device: OpenDevice) -> Filler:
    if not engine.is_driven:
        return HostFiller(layout, _open_preparer(plan, layout.item, layout.dtype, engine.info.runtime))
    uploader = Uploader(device.driver, is_staged=device.memory.is_staged, copies=device.copies)
    return DeviceFiller(layout, _open_kernels(plan, layout, device), uploader)


def _open_kernels(plan: ModelPlan, layout: InputLayout, device: OpenDevice) -> DevicePreparer:
    from edgert.prepare.kernels import KernelPreparer, load_kernel_image

    facts = device.driver.attributes()
    major, _, minor = str(facts["compute_capability"]).partition(".")
    image = load_kernel_image(int(facts["cuda_version"]), (int(major), int(minor)))
    with told_of(plan.entry.settings.path, "prepare"):
        return KernelPreparer(plan.settings.prepare, layout.item, layout.dtype, device.driver, image)


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
