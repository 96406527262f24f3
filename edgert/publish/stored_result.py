"""A result as bytes that outlive the process: what the spool keeps, and no subscriber sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import msgspec
import numpy as np

from edgert.errors import SinkError
from edgert.frames.result import Array, Classes, Detections, Output, Result, Tensors, label_of

TEXT = "O"  # NumPy's objects, whose bytes are addresses


class StoredArray(msgspec.Struct, array_like=True, gc=False):
    """A contiguous array, C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class StoredDetections(msgspec.Struct, array_like=True, tag="d", gc=False):
    """Detections, with the labels that they use."""

    boxes_xyxy_px: StoredArray
    scores: StoredArray
    class_indices: StoredArray
    labels: dict[int, str]
    landmarks_xy_px: StoredArray | None


class StoredClasses(msgspec.Struct, array_like=True, tag="c", gc=False):
    """Classes, with the labels that they use."""

    scores: StoredArray
    class_indices: StoredArray
    labels: dict[int, str]


class StoredTensors(msgspec.Struct, array_like=True, tag="t", gc=False):
    """Raw outputs."""

    tensors: dict[str, StoredArray]


class StoredResult(msgspec.Struct, array_like=True, gc=False):
    """A Result without the monotonic clock, which ends with the machine's run."""

    boot: str
    source: str
    seq: int
    model: str
    version: int
    captured_utc_ns: int
    width: int
    height: int
    output: StoredDetections | StoredClasses | StoredTensors


class UsedLabels(Sequence[str]):
    """The labels that a result needs, by class index; another index is its own label."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return max(self._names, default=-1) + 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._names.get(index, str(index))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredResult).decode


def store_result(result: Result, boot: str) -> bytes:
    """Return the result's bytes; `boot` is this start, for a result that names none."""
    return _encode(
        StoredResult(
            result.boot or boot,
            result.source,
            result.seq,
            result.model,
            result.version,
            result.captured_utc_ns,
            result.width,
            result.height,
            _stored(result.output),
        )
    )


def restore_result(data: bytes, utc_ns: int, mono_ns: int) -> Result:
    """Return the result, captured as long before `mono_ns` as it was before `utc_ns`, the same moment.

    Raises:
        SinkError: the bytes are not a result's.
    """
    try:
        stored = _decode(data)
        output = _restored(stored.output)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise SinkError(f"stored bytes are not a result: {error}") from error
    return Result(
        stored.source,
        stored.seq,
        stored.model,
        stored.version,
        stored.captured_utc_ns,
        mono_ns - max(0, utc_ns - stored.captured_utc_ns),
        stored.width,
        stored.height,
        output,
        stored.boot,
    )


def _stored(output: Output) -> StoredDetections | StoredClasses | StoredTensors:
    if isinstance(output, Tensors):
        return StoredTensors({name: _array(array) for name, array in output.tensors.items()})
    indices = output.class_indices.tolist()
    labels = {index: label_of(output.labels, index) for index in set(indices)}
    scores, classes = _array(output.scores), _array(output.class_indices)
    if isinstance(output, Classes):
        return StoredClasses(scores, classes, labels)
    landmarks = None if output.landmarks_xy_px is None else _array(output.landmarks_xy_px)
    return StoredDetections(_array(output.boxes_xyxy_px), scores, classes, labels, landmarks)


def _restored(stored: StoredDetections | StoredClasses | StoredTensors) -> Output:
    if isinstance(stored, StoredTensors):
        return Tensors({name: _read(array) for name, array in stored.tensors.items()})
    scores, classes, labels = _read(stored.scores), _read(stored.class_indices), UsedLabels(stored.labels)
    if isinstance(stored, StoredClasses):
        return Classes(scores, classes, labels)
    landmarks = None if stored.landmarks_xy_px is None else _read(stored.landmarks_xy_px)
    return Detections(_read(stored.boxes_xyxy_px), scores, classes, labels, landmarks)


def _array(array: Array) -> StoredArray:
    if array.dtype.kind != "O":
        return StoredArray(array.dtype.str, array.shape, array.tobytes())
    texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in array.flat]
    return StoredArray(TEXT, array.shape, msgspec.msgpack.encode(texts))


def _read(stored: StoredArray) -> Array:
    if stored.dtype == TEXT:
        return np.array(msgspec.msgpack.decode(stored.data), object).reshape(stored.shape)
    return np.frombuffer(stored.data, np.dtype(stored.dtype)).reshape(stored.shape)
