"""What Frigate sends to a ZeroMQ detector, and what it takes for an answer.

Frigate asks by REQ and waits 200 ms. `[header, tensor]` is a picture; the answer is `[header, rows]`, 20
rows of float32: class, score, then the top, left, bottom and right side in 0..1 of the picture, best first,
zeros after. A header alone asks whether a model is there; with the model's file behind it, it offers one.

Whatever it cannot read Frigate takes for "nothing detected", so an error is an answer that it cannot read:
it looks up the header's `dtype`, fails, and writes what stands there into its log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edgert.capture.answers import Answer, AnswerHeader, Encode, Outbox, Requester
from edgert.capture.message import PayloadReader, Text, decode_header
from edgert.capture.options import SourceOptions
from edgert.capture.source import Captured
from edgert.errors import FrameError, ModelError
from edgert.frames.result import Array, Detections, Result
from edgert.frames.slots import Slot

ROWS = 20
MAX_REASON = 300  # characters of an error that Frigate is told
Sides = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=65535)]], msgspec.Meta(max_length=8)]
_ROWS_HEADER = msgspec.json.encode({"shape": (ROWS, 6), "dtype": "float32"})


class Header(msgspec.Struct):
    """The keys of Frigate's header; others are ignored."""

    shape: Sides = []
    dtype: Text = ""
    model_request: bool = False
    model_data: bool = False
    model_name: Text = ""


class ModelState(msgspec.Struct):
    """What Frigate is told of a model that it asks for."""

    model_available: bool
    model_loaded: bool


class ModelReceipt(msgspec.Struct):
    """What Frigate is told of a model that it offers."""

    model_saved: bool
    model_loaded: bool


class FrigateAnswer(Answer):
    """An answer that Frigate reads, or an error that it writes into its log."""

    refusals_count_as: ClassVar[str] = "error_answer"
    said: bytes = b""  # given: all of the answer

    def message(self, encode: Encode) -> list[bytes]:
        """Return the parts to send. Raises ModelError for a result without boxes."""
        if self.said:
            return [*self.envelope, self.said]
        if self.result is None:
            return [*self.envelope, error_header(self.header), b""]
        return [*self.envelope, _ROWS_HEADER, rows_of(self.result).tobytes()]


class FrigateDialect:
    """Frigate's messages. `counts` gets the models that it asks for in vain, or offers."""

    def __init__(
        self, name: str, options: SourceOptions, payloads: PayloadReader, counts: Counter[str]
    ) -> None:
        self._name = name
        self._format: Literal["rgb8", "bgr8"] = options.format
        self._model = options.models[0].partition("/")[0] if options.models else ""
        self._payloads = payloads
        self._counts = counts

    def requester(self, outbox: Outbox, envelope: list[bytes]) -> Requester:
        """Return who waits."""
        return Requester(outbox, self._name, envelope, FrigateAnswer)

    def unpack(
        self, parts: Sequence[memoryview], slot: Slot | None, requester: Requester | None
    ) -> Captured | None:
        """Put the picture into `slot`, or answer what concerns models. Raises FrameError."""
        if not 1 <= len(parts) <= 2:
            raise FrameError(f"A message of Frigate has 1 or 2 parts, not {len(parts)}.")
        header = decode_header(parts[0], Header)
        if header.model_request or header.model_data:
            self._answer_model(header, requester)
            return None
        if len(parts) != 2:
            raise FrameError("A message of Frigate has a header and no picture.")
        picture = picture_of(header, parts[1])
        self._payloads.put(self._format, picture, slot)
        height, width = picture.shape[:2]
        return Captured(self._format, height, width, 0, 0, None, requester)

    def close(self) -> None:
        """Free what the pictures' reader has."""
        self._payloads.close()

    def _answer_model(self, header: Header, requester: Requester | None) -> None:
        """Say whether the source's model is meant. Models come from the store, so none is taken."""
        state: ModelState | ModelReceipt
        if header.model_data:
            self._counts["refused_model"] += 1
            state = ModelReceipt(model_saved=False, model_loaded=False)
        else:
            is_known = self._model in (header.model_name, header.model_name.rpartition(".")[0])
            if not is_known:
                self._counts["unknown_model"] += 1
            state = ModelState(model_available=is_known, model_loaded=is_known)
        if requester is not None:
            said = AnswerHeader(1, None, "ok", "", self._name, None, self._model)
            requester.put(FrigateAnswer(requester.envelope, said, True, said=msgspec.json.encode(state)))


def picture_of(header: Header, payload: memoryview) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a tensor [1, h, w, 3] or [1, 3, h, w] as (h, w, 3), a view of the payload. Raises FrameError."""
    shape = header.shape
    if header.dtype != "uint8":
        raise FrameError(
            f"A tensor of {header.dtype!r} came; expected uint8 (Frigate: model.input_dtype: int)."
        )
    if len(shape) != 4 or shape[0] != 1 or 3 not in (shape[1], shape[3]):
        raise FrameError(f"A tensor of shape {shape} came; expected [1, height, width, 3] or [1, 3, ...].")
    if np.prod(shape, dtype=object) != len(payload):
        raise FrameError(f"A tensor of shape {shape} came with {len(payload)} bytes.")
    picture = np.frombuffer(payload, np.uint8).reshape(shape[1:])
    return picture if shape[3] == 3 else picture.transpose(1, 2, 0)


def rows_of(result: Result) -> Array:
    """Return the best boxes as Frigate takes them, (20, 6) float32. Raises ModelError if there are none."""
    found = result.output
    if not isinstance(found, Detections):
        raise ModelError(f"Frigate takes boxes; model {result.model} gives {type(found).__name__.lower()}.")
    rows = np.zeros((ROWS, 6), np.float32)
    best = np.flatnonzero(np.isfinite(found.boxes_xyxy_px).all(axis=1))[:ROWS]  # others would break Frigate
    sides = np.array([result.height, result.width] * 2, np.float32)
    rows[: len(best), 0] = found.class_indices[best]
    rows[: len(best), 1] = found.scores[best]
    rows[: len(best), 2:] = (found.boxes_xyxy_px[best][:, [1, 0, 3, 2]] / sides).clip(0, 1)
    return rows


def error_header(header: AnswerHeader) -> bytes:
    """Return a header that Frigate cannot read, with the reason where its log shows it."""
    reason = f"edgert: {header.status}: {header.message}"[:MAX_REASON].replace(",", ";")
    return msgspec.json.encode({"shape": (ROWS, 6), "dtype": reason, "status": header.status})
