"""Models written in Python: a class in `<model>/<version>/model.py`, of which each lane has an object.

`class Model` gets and gives whole batches, see README; `class TritonPythonModel` is what the Inference
Server's python backend takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import msgspec

from edgert.errors import ModelError
from edgert.execute.engine import DEFAULT_LANE, EngineDetails, EngineInfo, Lane, LaneOptions
from edgert.execute.python_buffers import Allocate, PythonBufferSet
from edgert.execute.python_lane import PythonLane
from edgert.execute.python_model import Caller, Context, Instance, ModelInstance
from edgert.execute.python_module import ModelCode
from edgert.execute.python_output import LogWriter, printing_to
from edgert.execute.python_triton import TritonInstance, stand_in
from edgert.models.model_config import InstanceGroup, ModelConfig, SequenceBatching, TensorConfig
from edgert.models.store import ModelEntry, ModelVersion
from edgert.models.tensor_spec import TensorSpec

CLOSE_GRACE_S = 30.0  # for a batch in flight, when its lane is closed

_INSTANCES: dict[str, Callable[[type, Context, Caller], Instance]] = {
    "Model": ModelInstance,
    "TritonPythonModel": TritonInstance,
}


class PythonEngine:
    """An Engine whose lanes share code, and nothing else."""

    def __init__(
        self,
        code: ModelCode,
        kind: type,
        context: Context,
        caller: Caller,
        writer: LogWriter,
        allocate: Allocate,
        grace_s: float,
    ) -> None:
        self._code: ModelCode | None = code
        self._kind: type | None = kind
        self._context = context
        self._caller = caller
        self._writer = writer
        self._allocate = allocate
        self._grace_s = grace_s
        self._devices = _devices(context.config.instance_groups)
        self._indices = count()
        self.info = EngineInfo("python", context.inputs, context.outputs, context.max_batch_size > 0)

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """Return a lane with an object of its own, loaded. Raises ModelError."""
        if self._code is None or self._kind is None:
            raise ModelError(f"{self._caller.name}: the engine was closed.")
        instance = self._instance(self._kind, next(self._indices))
        sets = [
            PythonBufferSet(
                index,
                instance,
                self.info,
                max(max_batch, 1),
                self._allocate,
                is_decoupled=self._context.is_decoupled,
            )
            for index in range(2 if instance.keeps_outputs else 1)
        ]
        self._code.use()
        name = f"lane:{self._context.model}"
        lane = PythonLane(instance, sets, on_done, name, self._writer, self._code.leave, self._grace_s)
        lane.await_load()
        return lane

    @property
    def is_driven(self) -> bool:
        """False: its lanes have workers."""
        return False

    def warmed(self) -> None:
        """Do nothing: nothing was compiled."""

    def details(self) -> EngineDetails:
        """Return nothing: the model is its own."""
        return EngineDetails()

    def close(self) -> None:
        """Drop the code. A lane that was given up keeps it until its model returns."""
        code, self._code, self._kind = self._code, None, None
        if code is not None:
            code.leave()

    def _instance(self, kind: type, index: int) -> Instance:
        device_kind, device_id = self._devices[index % len(self._devices)]
        context = msgspec.structs.replace(
            self._context, instance=index, device_kind=device_kind, device_id=device_id
        )
        return _INSTANCES[kind.__name__](kind, context, self._caller)


def load_python_engine(
    file: Path, entry: ModelEntry, version: ModelVersion, allocate: Allocate, grace_s: float = CLOSE_GRACE_S
) -> PythonEngine:
    """Run a version's model.py and take its class; lanes make objects of it.

    Raises:
        ModelError: the file fails or has no such class, or config.pbtxt leaves tensors open.
    """
    context = _context(entry, version)
    writer = LogWriter(entry.name)
    code = ModelCode(
        f"{entry.name}_{version.number}",
        (file.parent, entry.folder),
        stand_in(file.parent),
        print=partial(print, file=writer),
    )
    with ExitStack() as undo:
        undo.callback(code.leave)
        with printing_to(writer):
            kind = _class_of(file, code, Caller(entry.name, file.name, file))
        undo.pop_all()
    caller = Caller(entry.name, kind.__name__, file)
    return PythonEngine(code, kind, context, caller, writer, allocate, grace_s)


def _class_of(file: Path, code: ModelCode, caller: Caller) -> type:
    module = caller.call("import", code.load, file.stem)
    for name in _INSTANCES:
        kind = getattr(module, name, None)
        if isinstance(kind, type):
            if not callable(getattr(kind, "execute", None)):
                raise ModelError(f"{file}: class {name} has no execute, expected execute(self, inputs)")
            return kind
    raise ModelError(f"{file}: has neither class {' nor '.join(_INSTANCES)}, expected one of them")


def _context(entry: ModelEntry, version: ModelVersion) -> Context:
    config = entry.config
    inputs = (*_specs(config, "input", config.inputs), *_hidden_inputs(config))
    outputs = (*_specs(config, "output", config.outputs), *_hidden_outputs(config))
    _demand_tensors(config, {"inputs": inputs, "outputs": outputs})
    return Context(
        model=entry.name,
        version=version.number,
        folder=entry.folder,
        version_folder=version.folder,
        parameters=config.parameters,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=config.max_batch_size or 0,
        is_decoupled=config.is_decoupled,
        instance=0,
        device_kind="cpu",
        device_id=0,
        config=config,
    )


def _demand_tensors(config: ModelConfig, sides: Mapping[str, Sequence[TensorSpec]]) -> None:
    """Raise ModelError where a side has none: nothing but config.pbtxt could say."""
    if missing := [side for side, specs in sides.items() if not specs]:
        raise ModelError(
            f"{config.file}: states no {' and no '.join(missing)}; auto_complete_config is not called: "
            "state them"
        )


def _specs(config: ModelConfig, field: str, tensors: Sequence[TensorConfig]) -> Iterator[TensorSpec]:
    """Yield tensors as the model sees them; model.py cannot say what config.pbtxt leaves out."""
    axis = (-1,) if config.max_batch_size else ()
    for index, tensor in enumerate(tensors):
        stated = {"name": tensor.name, "data_type": tensor.dtype, "dims": tensor.dims}
        missing = [name for name, value in stated.items() if not value]
        if missing:
            raise ModelError(
                f"{config.file}: field {field}[{index}].{missing[0]}: is not given, expected it for a model "
                "in Python"
            )
        yield TensorSpec(tensor.name, tensor.dtype, axis + tensor.engine_dims)


def _hidden_inputs(config: ModelConfig) -> Iterator[TensorSpec]:
    """Yield a sequence's controls and states that are not listed as inputs, as they need not be."""
    batching = config.sequence_batching or SequenceBatching()
    axis = (-1,) if config.max_batch_size else ()
    listed = {tensor.name for tensor in config.inputs}
    for told in batching.controls:
        if told.name not in listed:
            yield TensorSpec(told.name, told.controls[0].dtype, (*axis, 1))
    for state in batching.states:
        if state.input_name not in listed:
            yield TensorSpec(state.input_name, state.dtype, axis + state.dims)


def _hidden_outputs(config: ModelConfig) -> Iterator[TensorSpec]:
    """Yield a sequence's states that are not listed as outputs."""
    axis = (-1,) if config.max_batch_size else ()
    listed = {tensor.name for tensor in config.outputs}
    for state in (config.sequence_batching or SequenceBatching()).states:
        if state.output_name not in listed:
            yield TensorSpec(state.output_name, state.dtype, axis + state.dims)


def _devices(groups: Sequence[InstanceGroup]) -> list[tuple[str, int]]:
    """Return kind and device of each instance: by group, the devices of one in turn, as lanes are placed."""
    devices: list[tuple[str, int]] = []
    for group in groups:
        kind = group.kind.removeprefix("KIND_").lower()
        if kind == "auto":
            kind = "gpu" if group.gpus else "cpu"
        devices += [(kind, device) for device in group.gpus or (0,)] * group.count
    return devices or [("cpu", 0)]
