"""Inputs of a request as arrays: views of the body or of shared memory where that can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array
from edgert.serve.core import InferenceCore, TensorMetadata
from edgert.serve.datatypes import DTYPE_OF_DATATYPE, array_dtype, unpack_texts
from edgert.serve.http.infer_body import InferBody, InputTensor, explain_data
from edgert.serve.http.json_data import given_data, read_data
from edgert.serve.shared_memory import SharedMemory, no_regions

_DTYPES = {datatype: array_dtype(datatype) for datatype in DTYPE_OF_DATATYPE}
_PLACES = ("data", "binary_data_size", "shared_memory_region")
_REGION = attrgetter("parameters.shared_memory_region")
_ONLY_BINARY = ("FP16", "BF16")
Hold = Callable[[int], None]


class InputReader:
    """Reads the inputs of one request."""

    def __init__(self, core: InferenceCore, model: str, version: int, regions: SharedMemory | None) -> None:
        """`regions` is None where shared memory is off or the client elsewhere."""
        self._core = core
        self._model = model
        self._version = version
        self._regions = regions

    def read(self, body: InferBody, binary: memoryview, hold_texts: Hold) -> dict[str, Array]:
        """Return the inputs by name; `binary` is what stands behind the JSON.

        `hold_texts` counts the bytes of texts before they are read. Raises RequestError.
        """
        if any(map(_REGION, body.inputs)):
            self._check_shared(body)
        arrays: dict[str, Array] = {}
        start = 0
        for tensor in body.inputs:
            if tensor.name in arrays:
                raise RequestError(f"input '{tensor.name}' already exists in request")
            size = tensor.parameters.binary_data_size or 0
            if len(binary) - start < size:
                raise self._too_little(tensor.name, size - (len(binary) - start))
            arrays[tensor.name] = self._array(tensor, binary[start : start + size], hold_texts)
            start += size
        if start != len(binary):
            raise RequestError(f"unexpected additional input data for model '{self._model}'")
        return arrays

    def copied_bytes(self, body: InferBody) -> int:
        """Return how much has to be copied out of shared memory."""
        regions = self._regions
        if regions is None:
            return 0
        places = [tensor.parameters for tensor in body.inputs]
        return sum(
            place.shared_memory_byte_size
            for place in places
            if place.shared_memory_region is not None and regions.is_copied(place.shared_memory_region)
        )

    def read_raw(self, binary: memoryview, hold_texts: Hold) -> dict[str, Array]:
        """Return a body without JSON as the model's only input, a batch of one. Raises RequestError."""
        inputs = self._core.model_metadata(self._model, self._version).inputs
        if len(inputs) != 1:
            raise RequestError(
                f"Raw request must only have 1 input to be deduced but got {len(inputs)} inputs in "
                f"'{self._model}' model configuration"
            )
        is_batched = bool(self._core.model_config(self._model, self._version).max_batch_size)
        tensor = _raw_tensor(inputs[0], binary, is_batched=is_batched)
        return {tensor.name: self._from_bytes(tensor, binary, hold_texts)}

    def _array(self, tensor: InputTensor, binary: memoryview, hold_texts: Hold) -> Array:
        parameters = tensor.parameters
        text = given_data(tensor.data)
        places = (text, parameters.binary_data_size, parameters.shared_memory_region)
        if places.count(None) != len(places) - 1:
            raise _not_one_place(
                [name for name, place in zip(_PLACES, places, strict=True) if place is not None]
            )
        if tensor.datatype in ("UINT16", "BF16"):  # NumPy knows no difference, the core could not see one
            self._check_datatype(tensor)
        if text is not None:
            return _from_json(tensor, text)
        if parameters.shared_memory_region is not None:
            binary = self._shared(parameters.shared_memory_region, tensor)
        return self._from_bytes(tensor, binary, hold_texts)

    def _check_shared(self, body: InferBody) -> None:
        """See that what will be copied has a use, and is not too much."""
        copied = self.copied_bytes(body)
        if not copied or self._regions is None:
            return
        self._regions.check_copies(copied)
        known = {tensor.name for tensor in self._core.model_metadata(self._model, self._version).inputs}
        for tensor in body.inputs:
            if tensor.name not in known:
                raise RequestError(f"unexpected inference input '{tensor.name}' for model '{self._model}'")

    def _shared(self, region: str, tensor: InputTensor) -> memoryview:
        if self._regions is None:
            raise no_regions()
        parameters = tensor.parameters
        return self._regions.view(region, parameters.shared_memory_offset, parameters.shared_memory_byte_size)

    def _from_bytes(self, tensor: InputTensor, data: memoryview, hold_texts: Hold) -> Array:
        dtype = _dtype(tensor)
        count = math.prod(tensor.shape)
        if dtype.kind == "O":
            hold_texts(len(data))
            return _shaped(unpack_texts(data, count), tensor)
        if count * dtype.itemsize != len(data):
            raise RequestError(
                f"input byte size mismatch for input '{tensor.name}' for model '{self._model}'. Expected "
                f"{count * dtype.itemsize}, got {len(data)}"
            )
        try:
            array: Array = np.ndarray(tensor.shape, dtype, data)
        except (ValueError, OverflowError):
            raise _too_large(tensor) from None
        return array

    def _check_datatype(self, tensor: InputTensor) -> None:
        expected = self._core.model_metadata(self._model, self._version).inputs
        for known in expected:
            if known.name == tensor.name and known.datatype != tensor.datatype:
                raise RequestError(
                    f"inference input '{tensor.name}' data-type is '{tensor.datatype}', but model "
                    f"'{self._model}' expects '{known.datatype}'"
                )

    def _too_little(self, name: str, missing_bytes: int) -> RequestError:
        return RequestError(
            f"unexpected size for input '{name}', expecting {missing_bytes} additional bytes for model "
            f"'{self._model}'"
        )


def _from_json(tensor: InputTensor, text: bytes) -> Array:
    if tensor.datatype in _ONLY_BINARY:
        raise RequestError(
            f"receiving {tensor.datatype} data via JSON is not supported. Please use the binary data format "
            f"for input {tensor.name}"
        )
    dtype = _dtype(tensor)
    try:
        elements = read_data(text, tensor.datatype, dtype)
    except msgspec.ValidationError as error:
        raise explain_data(error, tensor.datatype, tensor.name) from None
    except (OverflowError, FloatingPointError, ValueError):  # too many digits are a ValueError
        raise RequestError(
            f"Unable to parse 'data': a number of input '{tensor.name}' is beyond {tensor.datatype}"
        ) from None
    if elements.size != math.prod(tensor.shape):
        raise RequestError("Unable to parse 'data': Shape does not match true shape of 'data' field")
    return _shaped(elements, tensor)


def _dtype(tensor: InputTensor) -> np.dtype[Any]:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise RequestError(f"invalid datatype for input {tensor.name}")
    return dtype


def _shaped(array: Array, tensor: InputTensor) -> Array:
    try:
        return array.reshape(tensor.shape)
    except (ValueError, OverflowError):
        raise _too_large(tensor) from None


def _too_large(tensor: InputTensor) -> RequestError:
    return RequestError(f"unexpected shape for input '{tensor.name}': {tensor.shape} is too large")


def _not_one_place(given: list[str]) -> RequestError:
    but = f"But set {' '.join(repr(name) for name in given)}" if given else "But no field is set"
    return RequestError(
        "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
        f"'shared_memory_region' in 'parameters'. {but}"
    )


def _raw_tensor(known: TensorMetadata, binary: memoryview, *, is_batched: bool) -> InputTensor:
    """Derive the shape from how many bytes there are."""
    shape = [1, *known.shape[1:]] if is_batched else list(known.shape)
    if shape.count(-1) > 1 or (known.datatype == "BYTES" and math.prod(shape) != 1):
        raise RequestError(f"For raw input '{known.name}', the model must have at most one variable side")
    if known.datatype != "BYTES" and -1 in shape:
        rest = math.prod(side for side in shape if side != -1) * array_dtype(known.datatype).itemsize
        shape[shape.index(-1)] = len(binary) // max(1, rest)
    return InputTensor(known.name, shape, known.datatype)
