"""A response as KServe's JSON with binary tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edgert.errors import EdgertError, RequestError
from edgert.frames.request import InferResponse
from edgert.frames.result import Array
from edgert.serve.classify import classify
from edgert.serve.core import InferenceCore
from edgert.serve.datatypes import DATATYPE_OF_DTYPE, pack_texts
from edgert.serve.shared_memory import Span

_DATATYPES = {np.dtype(name): datatype for name, datatype in DATATYPE_OF_DTYPE.items() if name != "bfloat16"}


class Wish(msgspec.Struct, frozen=True):
    """How a client wants an output."""

    is_binary: bool = False
    classes: int = 0  # that many of the highest values as text; 0: the tensor
    span: Span | None = None  # where in shared memory


class Encoded(msgspec.Struct, frozen=True):
    """A response's bytes: `json`, then `tensors`, which are views of the response's arrays."""

    json: bytes
    tensors: Sequence[bytes | memoryview]


class ResponseEncoder:
    """Encodes the responses to one request. Call it while the arrays are valid."""

    def __init__(self, core: InferenceCore, wishes: Mapping[str, Wish], otherwise: Wish) -> None:
        """`otherwise` is for outputs that `wishes` does not name."""
        self._core = core
        self._wishes = wishes
        self._otherwise = otherwise

    def encode(self, response: InferResponse) -> Encoded:
        """Return what to send of a response that is no error; outputs in shared memory are written there.

        Raises:
            EdgertError: an output cannot be sent as the client wants it.
        """
        tensors: list[bytes | memoryview] = []
        outputs = [self._output(response, name, tensors) for name in response.outputs]
        tree: dict[str, Any] = {"id": response.id} if response.id else {}
        tree |= {"model_name": response.model, "model_version": str(response.version)}
        if response.parameters:
            tree["parameters"] = response.parameters
        tree["outputs"] = outputs
        return Encoded(msgspec.json.encode(tree), tensors)

    def _output(
        self, response: InferResponse, name: str, tensors: list[bytes | memoryview]
    ) -> dict[str, Any]:
        """Describe an output; what goes behind the JSON is appended to `tensors`."""
        wish = self._wishes.get(name, self._otherwise)
        array = self._tensor(response, name, wish)
        datatype = self._datatype(response, name, array)
        described = {"name": name, "datatype": datatype, "shape": array.shape}
        if wish.span is not None:
            write_span(wish.span, name, tensor_bytes(array))
        elif wish.is_binary:
            data = tensor_bytes(array)
            tensors.append(data)
            described["parameters"] = {"binary_data_size": len(data)}
        else:
            described["data"] = json_data(array, datatype, name)
        return described

    def _tensor(self, response: InferResponse, name: str, wish: Wish) -> Array:
        array = response.outputs[name]
        if not wish.classes:
            return array
        labels = self._core.labels(response.model, response.version, name)
        max_batch = self._core.model_config(response.model, response.version).max_batch_size
        return classify(array, wish.classes, labels, is_batched=bool(max_batch))

    def _datatype(self, response: InferResponse, name: str, array: Array) -> str:
        datatype = _DATATYPES.get(array.dtype)
        if datatype is None:
            raise EdgertError(f"output '{name}' is of {array.dtype}, which the protocol has no name for")
        if datatype == "UINT16":  # BF16 looks the same
            tensors = self._core.model_metadata(response.model, response.version).outputs
            return next((tensor.datatype for tensor in tensors if tensor.name == name), datatype)
        return datatype


def tensor_bytes(array: Array) -> memoryview | bytes:
    """Return a tensor's bytes as the wire has them: a view where the array is contiguous."""
    if array.dtype.kind == "O":
        return pack_texts(array)
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data


def json_data(array: Array, datatype: str, name: str) -> msgspec.Raw:
    """Return a tensor's elements, flat, as JSON. Raises RequestError where JSON has no words for them."""
    if datatype in ("FP16", "BF16"):
        raise RequestError(
            f"sending {datatype} data via JSON is not supported. Please use the binary data format for output"
        )
    if datatype == "BYTES":
        return msgspec.Raw(msgspec.json.encode([_text(element, name) for element in array.flat]))
    elements = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return msgspec.Raw(json.dumps(elements, separators=(",", ":")).encode())  # NaN, Infinity
    return msgspec.Raw(msgspec.json.encode(elements))


def _text(element: bytes | str, name: str) -> str:
    try:
        return element if isinstance(element, str) else bytes(element).decode()
    except UnicodeDecodeError:
        raise RequestError(
            f"output '{name}' holds bytes that are no UTF-8. Please use the binary data format for it"
        ) from None


def write_span(span: Span, name: str, data: memoryview | bytes) -> None:
    """Write an output to where its client wants it. Raises RequestError if that is too small."""
    if len(data) > span.size:
        raise RequestError(
            f"shared memory size specified with the request for output '{name}' ({span.size} bytes) should "
            f"be at least {len(data)} bytes to hold the results"
        )
    span.write(data)
