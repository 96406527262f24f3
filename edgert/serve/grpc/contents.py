"""Typed tensor contents of a message as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array

# Which field of InferTensorContents a datatype comes in; 16-bit floats come raw only.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# What a field holds, by the name that the Inference Server gives it.
_DATATYPES = {
    "bool_contents": "BOOL",
    "int_contents": "INT32",
    "int64_contents": "INT64",
    "uint_contents": "UINT32",
    "uint64_contents": "UINT64",
    "fp32_contents": "FP32",
    "fp64_contents": "FP64",
    "bytes_contents": "BYTES",
}


def read_contents(tensor: Any, model: str) -> Sequence[Any]:
    """Return the elements of an InferInputTensor. Raises RequestError for those of another datatype."""
    wanted = _FIELDS.get(tensor.datatype, "")
    found: dict[str, Sequence[Any]] = {field.name: values for field, values in tensor.contents.ListFields()}
    for other in found:
        if other != wanted:
            raise RequestError(
                f"unexpected explicit tensor data for input tensor '{tensor.name}' for model '{model}' of "
                f"type '{_DATATYPES[other]}', expected datatype '{tensor.datatype}'"
            )
    return found.get(wanted, ())


def as_array(values: Sequence[Any], dtype: np.dtype[Any], name: str) -> Array:
    """Return elements as a flat array. Raises RequestError for a number that the datatype does not hold."""
    if dtype.kind not in "iu":
        array = np.empty(len(values), dtype)
        array[:] = values
        return array
    wide = np.array(values, np.uint64 if dtype.kind == "u" else np.int64)
    narrow = wide.astype(dtype)
    if not np.array_equal(wide, narrow):
        raise RequestError(f"input '{name}' has numbers that {dtype.name} does not hold")
    return narrow
