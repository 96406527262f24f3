"""What `import triton_python_backend_utils` gives to a model that was written for the Inference Server.

Names, arguments and meanings are those of its python backend. Calls to other models, custom metrics and
tensors on a GPU are not offered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from edgert.frames.result import Array

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1

_TYPES: dict[str, Any] = {  # in the order of the server's numbers, from 1
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
_NAMES = list(_TYPES)
TRITON_STRING_TO_NUMPY = _TYPES


class TritonModelException(Exception):  # noqa: N818 - the server's name
    """A fault that a model raises, or that it made with these classes."""


class TritonError:
    """Why a request failed."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = str(message)
        self._code = code

    def message(self) -> str:
        """Return what the client reads."""
        return self._message

    def code(self) -> int:
        """Return the kind of error."""
        return self._code


class Tensor:
    """A named array in the memory of the host."""

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException(
                f"Tensor {name!r}: found {type(array).__name__}, expected a NumPy array"
            )
        self._name = name
        self._array = array

    def name(self) -> str:
        """Return the name."""
        return self._name

    def shape(self) -> list[int]:
        """Return the shape."""
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """Return the server's number for the type."""
        return numpy_to_triton_type(self._array.dtype.type)

    def is_cpu(self) -> bool:
        """Return True."""
        return True

    def as_numpy(self) -> Array:
        """Return the array; text as objects of `bytes`."""
        return self._array

    def to_dlpack(self) -> Any:
        """Return a DLPack capsule, over a copy of what is not to be written."""
        return self.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        array = self.as_numpy()
        return (array if array.flags.writeable else array.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.as_numpy().__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:
        """Return a tensor over a DLPack capsule, or over what can make one."""
        capsule = SimpleNamespace(__dlpack__=lambda **_: tensor, __dlpack_device__=lambda: (1, 0))
        source: Any = tensor if hasattr(tensor, "__dlpack__") else capsule
        return Tensor(name, np.from_dlpack(source))


class InferenceResponse:
    """The answer to one request: tensors or an error."""

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._outputs = list(output_tensors)
        self._error = error if error is None or isinstance(error, TritonError) else TritonError(str(error))
        self._parameters = dict(parameters or {})

    def output_tensors(self) -> list[Tensor]:
        """Return the tensors."""
        return self._outputs

    def has_error(self) -> bool:
        """Say whether it is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Return the error."""
        return self._error

    def parameters(self) -> str:
        """Return the parameters as JSON."""
        return json.dumps(self._parameters)


class InferenceRequest:
    """What a client asks."""

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Iterable[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._wanted = set(requested_output_names)
        self._model = model_name
        self._flags = flags
        self._timeout = timeout
        self._parameters = dict(parameters or {})

    def inputs(self) -> list[Tensor]:
        """Return the input tensors."""
        return self._inputs

    def request_id(self) -> str:
        """Return the client's id."""
        return self._id

    def correlation_id(self) -> int | str:
        """Return the id of the sequence; 0 for none."""
        return self._correlation_id

    def requested_output_names(self) -> set[str]:
        """Return the outputs that are wanted."""
        return self._wanted

    def flags(self) -> int:
        """Return whether it starts or ends a sequence."""
        return self._flags

    def timeout(self) -> int:
        """Return the time that it may wait, in microseconds."""
        return self._timeout

    def priority(self) -> int:
        """Return the priority; 0 is the model's default."""
        return 0

    def parameters(self) -> str:
        """Return the parameters as JSON."""
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        """Say whether nobody waits any longer."""
        return False

    def get_response_sender(self) -> Any:
        """Return where responses go, of a decoupled model."""
        raise TritonModelException("get_response_sender: config.pbtxt does not say decoupled")

    def exec(self, **_: Any) -> InferenceResponse:
        """Refuse."""
        raise TritonModelException(f"Calls of other models ({self._model}) are not offered. Use an ensemble")

    async def async_exec(self, **_: Any) -> InferenceResponse:
        """Refuse."""
        return self.exec()


class Logger:
    """Lines for the log."""

    INFO, WARNING, ERROR, VERBOSE = logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG
    _log: ClassVar[logging.Logger] = logging.getLogger("edgert.python_model")

    @classmethod
    def log(cls, message: str, level: int = INFO) -> None:
        """Log a line."""
        cls._log.log(level, "%s", message)

    @classmethod
    def log_info(cls, message: str) -> None:
        """Log a line."""
        cls.log(message, cls.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        """Log a warning."""
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        """Log an error."""
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        """Log a line for those who look for a fault."""
        cls.log(message, cls.VERBOSE)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """Return an input, or None."""
    return _named(request.inputs(), name)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    """Return an output, or None."""
    return _named(response.output_tensors(), name)


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """Return what the configuration says of an input, or None."""
    return next((tensor for tensor in model_config.get("input", ()) if tensor["name"] == name), None)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """Return what the configuration says of an output, or None."""
    return next((tensor for tensor in model_config.get("output", ()) if tensor["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Say whether the model is decoupled."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """Return NumPy's type for `TYPE_FP32` and the like."""
    return _TYPES[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """Return NumPy's type for the server's number."""
    return _TYPES[_NAMES[data_type - 1]]


def numpy_to_triton_type(data_type: Any) -> int:
    """Return the server's number for one of NumPy's types."""
    kind = np.dtype(data_type)
    kind = np.dtype(object) if kind.kind in "SU" else kind
    return next(index for index, name in enumerate(_NAMES, 1) if np.dtype(_TYPES[name]) == kind)


def _named(tensors: Iterable[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name() == name), None)
