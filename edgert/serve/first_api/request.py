"""`NV-InferRequest` and the body behind it as inputs and wishes."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from edgert.errors import RequestError
from edgert.frames.request import SequenceStep
from edgert.frames.result import Array
from edgert.serve.core import InferenceCore, ModelMetadata, TensorMetadata
from edgert.serve.datatypes import array_dtype
from edgert.serve.encode import Wish
from edgert.serve.first_api.messages import parse_text
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import InferBody, InputTensor, TensorParameters
from edgert.serve.http.inputs import InputReader
from edgert.serve.shared_memory import SharedMemory, no_regions

HEADER = "NV-InferRequest"
FLAG_SEQUENCE_START = 1
FLAG_SEQUENCE_END = 2
MAX_AXES = 32  # that all releases of NumPy have
LONG_TEXT_BYTES = 1 << 15  # texts that take long to be told apart
LONG_COPY_BYTES = 1 << 20  # of shared memory


class Announced(msgspec.Struct, frozen=True):
    """A request's header with its tensors' places."""

    header: Any
    body: InferBody
    batch_size: int


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for."""

    inputs: dict[str, Array]
    wishes: dict[str, Wish]
    number: int  # the client's; 0: it gave none
    batch_size: int
    is_batched: bool  # the model has a batch axis
    sequence: SequenceStep | None


class HeaderReader:
    """Reads the requests to one version of a model."""

    def __init__(self, core: InferenceCore, model: str, version: int, regions: SharedMemory | None) -> None:
        """Raises UnknownModelError. `regions` is None where shared memory is off."""
        self._model: ModelMetadata = core.model_metadata(model, version)
        self._max_batch = core.model_config(model, version).max_batch_size or 0
        self._inputs = InputReader(core, model, version, regions)
        self._regions = regions

    def read_header(self, exchange: Exchange) -> Announced:
        """Return what the header says. Raises RequestError."""
        header = self._header(exchange)
        batch_size = self._batch_size(header)
        tensors = [self._tensor(tensor, batch_size) for tensor in header.input]
        return Announced(header, InferBody(inputs=tensors), batch_size)

    def is_long(self, announced: Announced) -> bool:
        """Say whether `read` takes too long for the fronts' own thread."""
        places = [tensor.parameters for tensor in announced.body.inputs if tensor.datatype == "BYTES"]
        texts = [max(place.binary_data_size or 0, place.shared_memory_byte_size) for place in places]
        copied = self._inputs.copied_bytes(announced.body)
        return max(texts, default=0) > LONG_TEXT_BYTES or copied > LONG_COPY_BYTES

    def read(self, announced: Announced, exchange: Exchange) -> Asked:
        """Return what a request asks for; its inputs are views of the body. Raises RequestError."""
        header = announced.header
        return Asked(
            inputs=self._inputs.read(announced.body, exchange.body, exchange.hold_json),
            wishes={output.name: self._wish(output) for output in header.output},
            number=header.id,
            batch_size=announced.batch_size,
            is_batched=bool(self._max_batch),
            sequence=_sequence(header),
        )

    def _header(self, exchange: Exchange) -> Any:
        text = exchange.head.headers.get(HEADER.lower().encode())
        if text is None:
            raise RequestError(f"the request has no header {HEADER}")
        return parse_text("InferRequestHeader", text.decode("latin-1"), HEADER)

    def _batch_size(self, header: Any) -> int:
        size = int(header.batch_size)
        if size < 1:
            raise RequestError(f"inference request batch-size must be >= 1 for '{self._model.name}'")
        if size > max(1, self._max_batch):
            raise RequestError(
                f"inference request batch-size must be <= {max(1, self._max_batch)} for '{self._model.name}'"
            )
        return size

    def _tensor(self, tensor: Any, batch_size: int) -> InputTensor:
        known = next((known for known in self._model.inputs if known.name == tensor.name), None)
        if known is None:
            raise RequestError(f"unexpected inference input '{tensor.name}' for model '{self._model.name}'")
        shape = self._shape(tensor, known, batch_size)
        size = int(tensor.batch_byte_size or tensor.byte_size * batch_size) or _size_of(known, shape)
        if not tensor.HasField("shared_memory"):
            return InputTensor(known.name, shape, known.datatype, None, TensorParameters(size))
        place = tensor.shared_memory
        parameters = TensorParameters(None, place.name, int(place.offset), int(place.byte_size) or size)
        return InputTensor(known.name, shape, known.datatype, None, parameters)

    def _shape(self, tensor: Any, known: TensorMetadata, batch_size: int) -> list[int]:
        """Return the shape with the batch axis, where the model has one; without dims it is the model's."""
        own = known.shape[1:] if self._max_batch else known.shape
        if len(tensor.dims) > MAX_AXES:
            raise RequestError(f"input '{known.name}' has more than {MAX_AXES} dims")
        sides = list(tensor.dims) or list(own)
        if any(side < 0 for side in sides):
            raise RequestError(
                f"input '{known.name}' of model '{self._model.name}' has sides that the request has to give "
                "in dims"
            )
        return [batch_size, *sides] if self._max_batch else sides

    def _wish(self, output: Any) -> Wish:
        classes = int(output.cls.count)
        if not output.HasField("shared_memory"):
            return Wish(is_binary=True, classes=classes)
        if self._regions is None:
            raise no_regions()
        place = output.shared_memory
        span = self._regions.span(place.name, int(place.offset), int(place.byte_size))
        return Wish(is_binary=True, classes=classes, span=span)


def _size_of(known: TensorMetadata, shape: list[int]) -> int:
    """Return a tensor's bytes. Raises RequestError for text, whose size the request has to say."""
    dtype = array_dtype(known.datatype)
    if dtype.kind == "O":
        raise RequestError(f"input '{known.name}' is text, so the request has to give batch_byte_size")
    return math.prod(shape) * dtype.itemsize


def _sequence(header: Any) -> SequenceStep | None:
    if not header.correlation_id:
        return None
    is_start, is_end = header.flags & FLAG_SEQUENCE_START, header.flags & FLAG_SEQUENCE_END
    return SequenceStep(int(header.correlation_id), bool(is_start), bool(is_end))
