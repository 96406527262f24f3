"""The host engine: ONNX files on the CPU through onnxruntime, the only file that imports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgert.device.heap import return_free_memory
from edgert.device.memory import Buffer
from edgert.errors import EngineMismatchError, ModelError
from edgert.execute.engine import DEFAULT_LANE, EngineDetails, EngineInfo, Lane, LaneOptions
from edgert.execute.host_lane import HostLane
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

_SETS_PER_LANE = 2
_KEPT_BINDINGS = 16
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}

# onnxruntime's load errors begin with codes, the file's name, and its own source line and signature.
_NOISE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?(This is an invalid model\. )?"
    r"(/\S+:\d+ .*?\) (?=[A-Z]))?"
)
_SIGNS_OF_MISMATCH = (
    "pset",  # "Opset 99 is under development", "No opset import for domain 'com.acme'"
    "No Op registered",
    "not a registered",
    "Could not find an implementation",
    "Unsupported model IR version",
)

Allocate = Callable[[int], Buffer]
Shapes = Mapping[str, tuple[int, ...]]


class OnnxEngine:
    """An Engine whose lanes share one session, and so its weights."""

    def __init__(self, file: Path, session: ort.InferenceSession, allocate: Allocate) -> None:
        self._file = file
        self._session: ort.InferenceSession | None = session
        self._allocate = allocate
        inputs = tuple(_spec(file, node) for node in session.get_inputs())
        outputs = tuple(_spec(file, node) for node in session.get_outputs())
        batches = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
        self.info = EngineInfo("onnxruntime", inputs, outputs, batches)

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """Return a lane with its own buffers. Raises OutOfDeviceMemoryError."""
        if self._session is None:
            raise ModelError(f"{self._file}: the engine was closed.")
        sets = [
            OnnxBufferSet(index, self._session, self.info, max(max_batch, 1), self._allocate)
            for index in range(_SETS_PER_LANE)
        ]
        return HostLane(sets, on_done, f"lane:{self._file.parent.parent.name}", has_own_code=False)

    @property
    def is_driven(self) -> bool:
        """False: its lanes have workers."""
        return False

    def warmed(self) -> None:
        """Do nothing: nothing was compiled."""

    def details(self) -> EngineDetails:
        """Return nothing: onnxruntime does not say."""
        return EngineDetails()

    def close(self) -> None:
        """Drop the session; onnxruntime frees the weights with it."""
        self._session = None


def load_onnx_engine(
    file: Path,
    threads: int,
    allocate: Allocate,
    content: bytes | None = None,
    *,
    has_integer_kernels: bool = True,
) -> OnnxEngine:
    """Load `file` with `threads` CPU threads a run, which do not spin while they wait.

    `content` is loaded in its place where it is given; `file` is then only what errors call it. Without
    `has_integer_kernels` what stands between Q and DQ nodes runs in FP32, whatever the CPU could do.

    Raises:
        EngineMismatchError: this onnxruntime cannot run the file (newer opset, unknown operator).
        ModelError: the file is absent or damaged.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not has_integer_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 4  # what it would print comes as an exception too
    try:
        session = ort.InferenceSession(content or str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _load_error(file, error) from error
    return_free_memory()  # what reading and optimizing the graph took: more than a small model's weights
    return OnnxEngine(file, session, allocate)


class OnnxBufferSet:
    """Inputs and outputs for up to `max_batch` items, bound to the session once for each shape."""

    stream = None  # filled on the lane\'s own thread

    def __init__(
        self, index: int, session: ort.InferenceSession, info: EngineInfo, max_batch: int, allocate: Allocate
    ) -> None:
        self.index = index
        self._session = session
        self._info = info
        self._names = [spec.name for spec in info.inputs]
        self._max_batch = max_batch
        self._allocate = allocate
        self._buffers: dict[str, Buffer] = {}
        self._bound: dict[tuple[tuple[int, ...], ...], _Binding] = {}
        self._current: _Binding | None = None

    def inputs(self, shapes: Shapes) -> Mapping[str, Array]:
        """Return the arrays to fill for these shapes; the same memory every time."""
        key = tuple(map(shapes.__getitem__, self._names))
        binding = self._bound.get(key)
        if binding is None:
            binding = self._bind(key)
        self._current = binding
        return binding.inputs

    def run(self) -> None:
        """Run the session on what `inputs` returned last."""
        if self._current is None:
            raise ModelError("The batch has no inputs: `inputs` was not called.")
        self._session.run_with_iobinding(self._current.renewed())

    def outputs(self) -> Mapping[str, Array]:
        """Return the outputs of the last run; those of variable size are arrays that onnxruntime made."""
        if self._current is None:
            raise ModelError("The batch has no outputs: it did not run.")
        return self._current.read_outputs()

    def close(self) -> None:
        """Free the buffers; arrays handed out must not be used any more."""
        self._current = None
        self._bound.clear()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()

    def _bind(self, shapes: tuple[tuple[int, ...], ...]) -> _Binding:
        if len(self._bound) >= _KEPT_BINDINGS:
            self._bound.pop(next(iter(self._bound)))
        io = self._session.io_binding()
        inputs = {}
        for spec, shape in zip(self._info.inputs, shapes, strict=True):
            array = inputs[spec.name] = self._array(spec, shape)
            io.bind_input(spec.name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
        batch = shapes[0][0] if shapes and shapes[0] else 1
        static = {}
        for spec in self._info.outputs:
            shape = spec.with_batch(batch) if self._info.batches else spec.shape
            if min(shape, default=0) > 0:
                array = static[spec.name] = self._array(spec, shape)
                io.bind_output(spec.name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
        variable = [spec.name for spec in self._info.outputs if spec.name not in static]
        binding = self._bound[shapes] = _Binding(io, inputs, static, variable)
        return binding

    def _array(self, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        """Return an array over this tensor's buffer, which holds the largest shape seen so far."""
        dtype = np.dtype(spec.dtype)
        needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        buffer = self._buffers.get(spec.name)
        if buffer is None or buffer.size_bytes < needed:
            per_item = needed // max(shape[0], 1) if self._info.batches and shape else needed
            wanted = per_item * self._max_batch if self._info.batches else needed
            self._replace(spec.name, max(wanted, needed))
        return self._buffers[spec.name].view_u8[:needed].view(dtype).reshape(shape)

    def _replace(self, name: str, size_bytes: int) -> None:
        old = self._buffers.pop(name, None)
        if old is not None:
            self._bound.clear()  # they point into the old buffer
            old.free()
        self._buffers[name] = self._allocate(size_bytes)


class _Binding:
    """One IOBinding with the arrays it points to. onnxruntime allocates the `variable` outputs."""

    def __init__(
        self, io: ort.IOBinding, inputs: dict[str, Array], static: dict[str, Array], variable: list[str]
    ) -> None:
        self.inputs = inputs
        self._io = io
        self._static = static
        self._variable = variable

    def renewed(self) -> ort.IOBinding:
        """Return the binding for one more run.

        Outputs of variable size are bound anew: else onnxruntime takes the array of the last run, and
        refuses another size.
        """
        for name in self._variable:
            self._io.bind_output(name, "cpu")
        return self._io

    def read_outputs(self) -> Mapping[str, Array]:
        if not self._variable:
            return self._static
        values = self._io.get_outputs()[len(self._static) :]  # they were bound after the static ones
        made = {name: value.numpy() for name, value in zip(self._variable, values, strict=True)}
        return {**self._static, **made}


def _spec(file: Path, node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ModelError(f"{file}: tensor {node.name!r} has type {node.type}, which edgert cannot feed.")
    shape = tuple(side if isinstance(side, int) else -1 for side in node.shape)
    return TensorSpec(node.name, _DTYPES[node.type], shape)


def _load_error(file: Path, error: Exception) -> ModelError:
    text = _NOISE.sub("", str(error).split("\n", maxsplit=1)[0])
    if type(error).__name__ == "NoSuchFile":
        return ModelError(f"{file}: no such engine file.")
    if any(sign in text for sign in _SIGNS_OF_MISMATCH):
        return EngineMismatchError(
            f"{file}: onnxruntime {ort.__version__} cannot run it: {text.rstrip('.')}. "
            "Export the model for an older opset, or install a newer onnxruntime."
        )
    return ModelError(f"{file}: not a usable ONNX file: {text}")
