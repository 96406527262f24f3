"""Reads a state dict in PyTorch's legacy file format, without PyTorch and without running anything in it.

The format (`torch.serialization._legacy_save`): four pickles (magic number, protocol, system, the dict), a
pickled list of storage keys, then for each key an int64 count and the elements. Tensors name storages by key.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from edgert.demo.convert.onnx_graph import Weights
from edgert.errors import ModelError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, Weights]:
    """Return the tensors by name. Raises ModelError for any other file, or one that wants to run code."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except (pickle.UnpicklingError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
            raise ModelError(f"{path}: not a legacy PyTorch state dict of plain tensors: {error}") from error


def _read(file: IO[bytes]) -> dict[str, Weights]:
    header = (_Unpickler(file).load(), _Unpickler(file).load())
    if header != (MAGIC, PROTOCOL):
        raise ValueError(f"it begins with {header}")
    _Unpickler(file).load()  # byte order and sizes of the writing machine; the format itself is little-endian
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in _Unpickler(file).load()}
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storage(file: IO[bytes], dtype: np.dtype[Any]) -> Weights:
    count = int.from_bytes(file.read(8), "little")
    elements = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    if len(elements) != count:
        raise ValueError(f"the file ends after {len(elements)} of {count} elements")
    return elements


def _view(tensor: _Tensor, storage: Weights) -> Weights:
    """Return a copy. Checks the bounds, which `as_strided` does not."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((side - 1) * stride for side, stride in steps)
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of shape {tensor.shape} leaves its storage of {len(storage)} elements")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides))


class _Unpickler(pickle.Unpickler):
    """Knows the three names that a state dict needs and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            ),
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid  # ("storage", type, key, device, count, ...)
        return _Storage(key, dtype)
