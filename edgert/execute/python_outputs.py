"""Holds what a model in Python answers against the outputs of its config.pbtxt."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgert.errors import ModelError
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

log = logging.getLogger(__name__)


class OutputCheck:
    """Checks names, types and shapes; `where` begins its messages."""

    def __init__(self, where: str, specs: tuple[TensorSpec, ...], *, is_batched: bool) -> None:
        self._where = where
        self._specs = {spec.name: spec for spec in specs}
        self._dtypes = {spec.name: host_dtype(spec.dtype) for spec in specs}
        self._is_batched = is_batched
        self._warned: set[str] = set()

    def whole(self, answer: object, rows: int | None) -> dict[str, Array]:
        """Return the arrays of all outputs, in C order, with `rows` rows. Raises ModelError."""
        outputs = self._named(answer)
        if missing := self._specs.keys() - outputs.keys():
            raise self._error(f"did not return {_listed(missing)}; config.pbtxt has {_listed(self._specs)}")
        return {name: self._array(name, outputs[name], rows) for name in self._specs}

    def part(self, answer: object) -> dict[str, Array]:
        """Return the arrays of some outputs, in C order, of any number of rows. Raises ModelError."""
        return {name: self._array(name, array, None) for name, array in self._named(answer).items()}

    def lax(self, answer: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays in C order, whatever they are; what does not fit is warned of once.

        Text is made of any objects, as by the Inference Server's python backend.
        """
        return {name: self._lax(name, array) for name, array in self._named(answer).items()}

    def _lax(self, name: str, array: Array) -> Array:
        array = _text_of(array) if array.dtype.kind in "OSU" else array
        try:
            return self._array(name, array, None)
        except ModelError as error:
            if name not in self._warned:
                log.warning("%s; it is passed on as it is", error)
            self._warned.add(name)
        return array if array.flags.c_contiguous else array.copy()

    def _named(self, answer: object) -> Mapping[str, Any]:
        if not isinstance(answer, Mapping):
            raise self._error(f"returned {type(answer).__name__}, expected a dict of arrays by output's name")
        if unknown := answer.keys() - self._specs.keys():
            raise self._error(f"returned {_listed(unknown)}; config.pbtxt has {_listed(self._specs)}")
        return answer

    def _array(self, name: str, array: object, rows: int | None) -> Array:
        if not isinstance(array, np.ndarray):
            raise self._error(f"output {name!r} is of type {type(array).__name__}, expected a NumPy array")
        dtype = self._dtypes[name]
        if dtype.hasobject:
            array = self._texts(name, array)
        elif array.dtype != dtype:
            raise self._error(f"output {name!r} is {array.dtype}, expected {dtype}")
        self._check_shape(self._specs[name], array.shape, rows)
        return array if array.flags.c_contiguous else array.copy()

    def _texts(self, name: str, array: Array) -> Array:
        """Return an object array of `bytes`; `str` as UTF-8."""
        if array.dtype.kind not in "OSU":
            raise self._error(f"output {name!r} is {array.dtype}, expected object, with bytes or str")
        texts = array.astype(object, copy=False)
        flat = texts.ravel().tolist()
        if all(type(text) is bytes for text in flat):
            return texts
        encoded = np.empty(len(flat), object)
        encoded[:] = [self._encode(name, text) for text in flat]
        shaped: Array = encoded.reshape(texts.shape)
        return shaped

    def _encode(self, name: str, text: object) -> bytes:
        if isinstance(text, str):
            return text.encode("utf-8", "surrogateescape")
        if isinstance(text, bytes | bytearray | memoryview):
            return bytes(text)
        raise self._error(f"output {name!r} holds {type(text).__name__}, expected bytes or str")

    def _check_shape(self, spec: TensorSpec, shape: tuple[int, ...], rows: int | None) -> None:
        wanted = spec.shape
        if self._is_batched and rows is not None:
            wanted = spec.with_batch(rows)
        is_fitting = len(shape) == len(wanted) and all(
            own in (-1, side) for own, side in zip(wanted, shape, strict=True)
        )
        if not is_fitting:
            of = f" for a batch of {rows}" if wanted != spec.shape else ""
            raise self._error(f"output {spec.name!r} has shape {list(shape)}, expected {list(wanted)}{of}")

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self._where}: {what}")


def host_dtype(dtype: str) -> np.dtype[Any]:
    """Return what NumPy holds a tensor's elements in; bfloat16 as uint16."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _text_of(array: Array) -> Array:
    """Return an object array of `bytes`; what is neither bytes nor str as Python prints it."""
    texts = np.empty(array.size, object)
    texts[:] = [one if isinstance(one, bytes) else str(one).encode() for one in array.ravel().tolist()]
    shaped: Array = texts.reshape(array.shape)
    return shaped


def _listed(names: Iterable[str]) -> str:
    return str(sorted(map(str, names)))
