"""What requests to a model must look like. Texts are the Inference Server's, as clients may know them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np

from edgert.errors import RequestError
from edgert.frames.request import InferRequest
from edgert.frames.result import Array
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.serve.datatypes import DATATYPE_OF_DTYPE

_ABOUT_THE_BATCH_AXIS = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)


class Fit(msgspec.Struct, frozen=True, gc=False):
    """How a request that fits goes into batches."""

    rows: int  # of the batch that it takes
    key: Hashable  # what requests must have in common to share a batch


class Signature:
    """Holds requests against one model's completed configuration."""

    def __init__(self, model: str, config: ModelConfig, given: Iterable[str] = ()) -> None:
        """`given` are inputs that no client sends: a sequence's controls and states."""
        hidden = set(given)
        self._model = model
        self._max_batch = config.max_batch_size or 0
        self._inputs = {tensor.name: tensor for tensor in config.inputs if tensor.name not in hidden}
        self._required = {tensor.name for tensor in config.inputs if not tensor.optional} - hidden
        self._outputs = tuple(tensor.name for tensor in config.outputs)
        self._has_one_shape = self._required == self._inputs.keys() and not any(
            -1 in tensor.dims or tensor.is_shape_tensor for tensor in self._inputs.values()
        )

    def check(self, request: InferRequest) -> Fit:
        """Return how the request goes into batches. Raises RequestError."""
        inputs = request.inputs
        self._check_names(request)
        rows = self._rows(request)
        for name, array in inputs.items():
            self._check_tensor(request, self._inputs[name], array, rows)
        if request.outputs:
            self._check_outputs(request.outputs)
        return Fit(rows, None if self._has_one_shape else self._key(inputs))

    def wanted(self, request: InferRequest) -> tuple[str, ...]:
        """Return the outputs that the request asks for, in its order."""
        return request.outputs or self._outputs

    def _check_names(self, request: InferRequest) -> None:
        found = request.inputs.keys()
        if not found <= self._inputs.keys():
            unexpected = next(name for name in found if name not in self._inputs)
            raise RequestError(f"unexpected inference input '{unexpected}' for model '{self._model}'")
        if not self._required <= found:
            missing = self._required - found
            least, listed = len(self._required), _listed(found)
            raise RequestError(
                f"{_named(request)}expected {least} inputs but got {len(found)} inputs for model "
                f"'{self._model}'. Got input(s) {listed}, but missing required input(s) {_listed(missing)}. "
                "Please provide all required input(s)."
            )

    def _rows(self, request: InferRequest) -> int:
        if not self._max_batch:
            return 1
        first = next(iter(request.inputs.values()), None)
        rows = first.shape[0] if first is not None and first.ndim else 1
        if rows > self._max_batch:
            raise RequestError(
                f"{_named(request)}inference request batch-size must be <= {self._max_batch} for "
                f"'{self._model}'"
            )
        if not rows:
            raise RequestError(
                f"{_named(request)}inference request batch-size must be >= 1 for '{self._model}'"
            )
        return rows

    def _check_tensor(self, request: InferRequest, tensor: TensorConfig, array: Array, rows: int) -> None:
        if not _is_held(tensor.dtype, array.dtype):
            found = DATATYPE_OF_DTYPE.get(array.dtype.name, array.dtype.name)
            expected = DATATYPE_OF_DTYPE.get(tensor.dtype, tensor.dtype)
            raise RequestError(
                f"{_named(request)}inference input '{tensor.name}' data-type is '{found}', but model "
                f"'{self._model}' expects '{expected}'"
            )
        shape = array.shape
        if self._max_batch and not tensor.is_shape_tensor:
            is_fitting = shape[:1] == (rows,) and _matches(tensor.dims, shape[1:])
        else:
            is_fitting = _matches(tensor.dims, shape)
        if not is_fitting:
            expected = "[" + ",".join(map(str, (-1,) * bool(self._max_batch) + tensor.dims)) + "]"
            raise RequestError(
                f"{_named(request)}unexpected shape for input '{tensor.name}' for model '{self._model}'. "
                f"Expected {expected}, got [{','.join(map(str, shape))}]. "
                f"{_ABOUT_THE_BATCH_AXIS if self._max_batch else ''}"
            )

    def _check_outputs(self, wanted: Iterable[str]) -> None:
        for name in wanted:
            if name not in self._outputs:
                raise RequestError(f"unexpected inference output '{name}' for model '{self._model}'")

    def _key(self, inputs: Mapping[str, Array]) -> Hashable:
        """Return names and shapes without the batch axis, and the values of shape tensors."""
        batched = bool(self._max_batch)
        return tuple(
            (name, inputs[name].tobytes() if tensor.is_shape_tensor else inputs[name].shape[batched:])
            for name, tensor in self._inputs.items()
            if name in inputs
        )


@cache
def _is_held(dtype: str, array_dtype: np.dtype[Any]) -> bool:
    """Say whether arrays of a type hold tensors of `dtype`. NumPy makes the name of a type anew each time."""
    name = array_dtype.name
    return name == dtype or (dtype == "bfloat16" and name == "uint16")


def _matches(dims: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return shape == dims or (
        len(shape) == len(dims) and all(own in (-1, side) for own, side in zip(dims, shape, strict=True))
    )


def _named(request: InferRequest) -> str:
    return f"[request id: {request.id or '<id_unknown>'}] "


def _listed(names: Iterable[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in sorted(names)) + "]"
