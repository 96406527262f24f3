"""Types of tensors as the KServe protocol names them, and text tensors as bytes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array

DTYPE_OF_DATATYPE = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
    "BF16": "bfloat16",
}
DATATYPE_OF_DTYPE = {dtype: datatype for datatype, dtype in DTYPE_OF_DATATYPE.items()}
_LENGTH = struct.Struct("<I")  # goes before each element of a BYTES tensor


def array_dtype(datatype: str) -> np.dtype[Any]:
    """Return what NumPy holds a datatype in; BF16 as uint16. Raises RequestError for an unknown one."""
    try:
        dtype = DTYPE_OF_DATATYPE[datatype]
    except KeyError:
        raise RequestError(f"unknown datatype '{datatype}'") from None
    return host_dtype(dtype)


def host_dtype(dtype: str) -> np.dtype[Any]:
    """Return what NumPy holds a model's tensors in: itself, but for bfloat16."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def unpack_texts(data: memoryview | bytes, count: int) -> Array:
    """Return `count` elements of a BYTES tensor as a flat object array. Raises RequestError."""
    view = memoryview(data)
    if count * _LENGTH.size > len(view):  # before there is room for them
        raise RequestError(
            f"a BYTES tensor of {count} elements has at least {count * _LENGTH.size} bytes, {len(view)} came"
        )
    texts = np.empty(count, object)
    start = 0
    for index in range(count):
        if len(view) - start < _LENGTH.size:
            raise RequestError(f"a BYTES tensor ends after {index} of {count} elements")
        (length,) = _LENGTH.unpack_from(view, start)
        start += _LENGTH.size
        if len(view) - start < length:
            raise RequestError(
                f"element {index} of a BYTES tensor has {length} bytes, {len(view) - start} came"
            )
        texts[index] = bytes(view[start : start + length])
        start += length
    if start != len(view):
        raise RequestError(f"a BYTES tensor has {len(view) - start} bytes after its {count} elements")
    return texts


def pack_texts(texts: Array) -> bytes:
    """Return a BYTES tensor's elements, each after its length; `str` as UTF-8."""
    pieces = []
    for text in texts.ravel():
        data = text.encode() if isinstance(text, str) else bytes(text)
        pieces += [_LENGTH.pack(len(data)), data]
    return b"".join(pieces)
