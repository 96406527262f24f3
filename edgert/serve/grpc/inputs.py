"""Tensors of a request as arrays: views of the message or of shared memory, or typed contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array
from edgert.serve.datatypes import array_dtype, unpack_texts
from edgert.serve.grpc.contents import as_array, read_contents
from edgert.serve.grpc.places import shared_span
from edgert.serve.shared_memory import SharedMemory

MAX_INPUTS = 1024
MAX_AXES = 32  # that all releases of NumPy have
Data = memoryview | bytes


class InputReader:
    """Makes arrays of the inputs of one ModelInferRequest."""

    def __init__(
        self,
        request: Any,
        raws: Sequence[Data],
        shared_memory: SharedMemory | None,
        hold_texts: Callable[[int], None],
    ) -> None:
        """`hold_texts` counts the bytes of texts before they are read."""
        self._request = request
        self._hold_texts = hold_texts
        self._model = request.model_name
        self._raws = raws
        self._next_raw = 0
        self._shared_memory = shared_memory

    def read(self) -> dict[str, Array]:
        """Return the inputs by name: views where they are not text or typed contents.

        Raises:
            RequestError: they are not what they say.
        """
        tensors = self._request.inputs
        if len(tensors) > MAX_INPUTS:
            raise RequestError(f"a request may have {MAX_INPUTS} inputs; {len(tensors)} came")
        arrays: dict[str, Array] = {}
        for tensor in tensors:
            name = tensor.name
            if name in arrays:
                raise self._problem(f"input '{name}' already exists in request")
            try:
                arrays[name] = self._array(tensor, name)
            except ValueError as error:  # a side beyond all bounds beside a 0
                raise self._problem(f"input '{name}' cannot be held: {error}") from None
        if self._next_raw != len(self._raws):
            raise self._problem(
                f"expected {self._next_raw} raw_input_contents for model '{self._model}', "
                f"got {len(self._raws)}"
            )
        return arrays

    def _array(self, tensor: Any, name: str) -> Array:
        shape, dtype = self._shape(tensor, name), array_dtype(tensor.datatype)
        data = self._data(tensor, name)
        if data is None:
            return self._from_contents(tensor, name, shape, dtype)
        count = prod(shape)
        if dtype.kind == "O":
            return self._texts(data, count, name).reshape(shape)
        self._check_bytes(name, count * dtype.itemsize, len(data))
        array: Array = np.ndarray(shape, dtype, data)
        return array

    def _shape(self, tensor: Any, name: str) -> tuple[int, ...]:
        if len(tensor.shape) > MAX_AXES:  # the product of millions of sides takes minutes
            raise self._problem(f"input '{name}' cannot be held: it has more than {MAX_AXES} axes")
        shape = tuple(tensor.shape)
        if shape and min(shape) < 0:
            raise self._problem(f"input '{name}' has a side below 0: {list(shape)}")
        return shape

    def _data(self, tensor: Any, name: str) -> Data | None:
        """Return a tensor's bytes; None if it has typed contents."""
        shared = shared_span(tensor.parameters, name, self._shared_memory)
        has_contents = tensor.HasField("contents")
        if shared is None and not self._raws:
            if not has_contents:
                raise self._without_data(name)
            return None
        if has_contents:
            raise self._given_twice(name, is_shared=shared is not None)
        return self._raw(name) if shared is None else shared.read()

    def _raw(self, name: str) -> Data:
        if self._next_raw == len(self._raws):
            raise self._without_data(name)
        self._next_raw += 1
        return self._raws[self._next_raw - 1]

    def _from_contents(self, tensor: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        values = read_contents(tensor, self._model)
        expected = prod(shape)
        if len(values) != expected:
            if dtype.kind == "O":
                raise self._wrong_count(name, expected, str(len(values)))
            self._check_bytes(name, expected * dtype.itemsize, len(values) * dtype.itemsize)
        return as_array(values, dtype, name).reshape(shape)

    def _texts(self, data: Data, count: int, name: str) -> Array:
        self._hold_texts(len(data))
        try:
            return unpack_texts(data, count)
        except RequestError as error:
            raise self._problem(f"inference input '{name}': {error}") from None

    def _check_bytes(self, name: str, expected: int, got: int) -> None:
        if expected != got:
            raise self._problem(
                f"input byte size mismatch for input '{name}' for model '{self._model}'. "
                f"Expected {expected}, got {got}"
            )

    def _given_twice(self, name: str, *, is_shared: bool) -> RequestError:
        if is_shared:
            return RequestError(
                "unexpected 'content' provided when using shared memory for input tensor "
                f"'{name}' for model '{self._model}'"
            )
        return RequestError(
            f"contents field must not be specified when using raw_input_contents for '{name}' for model "
            f"'{self._model}'"
        )

    def _wrong_count(self, name: str, expected: int, got: str) -> RequestError:
        return self._problem(
            f"expected {expected} string elements for inference input '{name}' for model '{self._model}', "
            f"got {got}"
        )

    def _without_data(self, name: str) -> RequestError:
        return RequestError(
            f"unable to find data for input tensor '{name}' for model '{self._model}' in request."
        )

    def _problem(self, what: str) -> RequestError:
        return RequestError(f"[request id: {self._request.id or '<id_unknown>'}] {what}")
