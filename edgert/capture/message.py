"""What a ZeroMQ message says, checked before a byte of it is believed.

A message is `[header, payload]`, after what its socket type puts before them. The header is a map in
JSON (its first byte is `{`) or msgpack. Nothing here knows a socket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
import numpy as np

from edgert.capture.picture import decode_picture, picture_size
from edgert.capture.shm import ShmPlace, ShmReader
from edgert.errors import FrameError
from edgert.frames.frame import image_bytes, image_shape
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts

T = TypeVar("T")

MAX_HEADER_BYTES = 16 * 1024
MAX_SENDERS = 1024  # whose sequence numbers are watched
MAX_PLACE_BYTES = 4 * 1024  # of a `shm` payload

Text = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Format = Literal["bgr8", "rgb8", "gray8", "nv12", "jpeg", "png", "shm"]


class Header(msgspec.Struct):
    """The header's keys; others are ignored. `height` and `width` may be absent for jpeg and png."""

    v: Literal[1]
    format: Format
    height: Side = 0
    width: Side = 0
    source: Text = ""
    seq: Count = 0
    captured_utc_ns: Count = 0  # 0: unknown, the time of arrival is taken
    model: Text | None = None
    id: Text | Count | None = None  # comes back with the answer


def envelope_length(socket: str, parts: Sequence[memoryview]) -> int:
    """Return how many parts precede the header: routing identity, empty delimiter or topic."""
    if socket == "sub":
        return 1 if len(parts) == 3 else 0
    length = 1 if socket == "router" else 0
    is_delimited = len(parts) > length and not len(parts[length])
    return length + is_delimited


def parse_header(data: memoryview) -> Header:
    """Return the header. Raises FrameError."""
    return decode_header(data, Header)


def decode_header(data: memoryview, kind: type[T]) -> T:
    """Return a header of any form. Raises FrameError."""
    if len(data) > MAX_HEADER_BYTES:
        raise FrameError(f"A header of {len(data)} bytes is over the bound of {MAX_HEADER_BYTES}.")
    return _decode(data, kind, "header")


def is_json(data: memoryview) -> bool:
    """Whether a header is written in JSON rather than msgpack."""
    return len(data) > 0 and data[0] == ord("{")


class SequenceGaps:
    """Counts the numbers that senders skipped. A number that falls back is a sender's new start."""

    def __init__(self) -> None:
        self._next: OrderedDict[str, int] = OrderedDict()

    def missed(self, sender: str, seq: int) -> int:
        """Return how many frames of `sender` are missing before `seq`."""
        expected = self._next.get(sender, seq)
        self._next[sender] = seq + 1
        self._next.move_to_end(sender)
        if len(self._next) > MAX_SENDERS:
            self._next.popitem(last=False)
        return max(0, seq - expected)


class PayloadReader:
    """Puts payloads into slots. It makes room for at most `max_frame_bytes` a frame."""

    def __init__(self, max_frame_bytes: int, copies: CopyCounts) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._copies = copies
        self._shm = ShmReader()

    def read_into(self, header: Header, payload: memoryview, slot: Slot | None) -> tuple[str, int, int]:
        """Check the payload, put its pixels into `slot` (None: nowhere), return format, height, width.

        Raises FrameError.
        """
        if header.format == "shm":
            return self._read_shm(header, payload, slot)
        if header.format in ("jpeg", "png"):
            return self._read_picture(header, payload, slot)
        shape = self._bounded_shape(header.format, header.height, header.width)
        _demand_size(header, header.format, image_bytes(shape), len(payload))
        if slot is not None:
            self._copy(np.frombuffer(payload, np.uint8).reshape(shape), slot)
        return header.format, header.height, header.width

    def put(self, pixel_format: str, picture: np.ndarray[Any, np.dtype[np.uint8]], slot: Slot | None) -> None:
        """Copy an (h, w, 3) picture into `slot` (None: nowhere). Raises FrameError if it is too large."""
        self._bounded_shape(pixel_format, *picture.shape[:2])
        if slot is not None:
            self._copy(picture, slot)

    def close(self) -> None:
        """Close the shared memory objects."""
        self._shm.close()

    def _read_shm(self, header: Header, payload: memoryview, slot: Slot | None) -> tuple[str, int, int]:
        if len(payload) > MAX_PLACE_BYTES:
            raise FrameError(f"A shm payload of {len(payload)} bytes is over the bound of {MAX_PLACE_BYTES}.")
        place = _decode(payload, ShmPlace, "shm payload")
        shape = self._bounded_shape(place.format, header.height, header.width)
        _demand_size(header, place.format, image_bytes(shape), place.bytes)
        if slot is not None:
            self._shm.read_into(place, slot.fit(shape))
            self._copies.add("host_to_host", place.bytes)
        return place.format, header.height, header.width

    def _read_picture(self, header: Header, payload: memoryview, slot: Slot | None) -> tuple[str, int, int]:
        height, width = picture_size(header.format, payload)
        if (header.height or height, header.width or width) != (height, width):
            said = f"{header.width}x{header.height}"
            raise FrameError(f"The header says {said}, the {header.format} itself {width}x{height}.")
        shape = self._bounded_shape("bgr8", height, width)
        if slot is not None:
            picture = decode_picture(header.format, payload)
            if picture.shape != shape:
                raise FrameError(f"The {header.format} decodes to {picture.shape}, not to {shape}.")
            self._copy(picture, slot)
        return "bgr8", height, width

    def _copy(self, picture: np.ndarray[Any, np.dtype[np.uint8]], slot: Slot) -> None:
        np.copyto(slot.fit(picture.shape), picture)
        self._copies.add("host_to_host", picture.nbytes)

    def _bounded_shape(self, pixel_format: str, height: int, width: int) -> tuple[int, ...]:
        shape = image_shape(pixel_format, height, width)
        size = image_bytes(shape)
        if size > self._max_frame_bytes:
            raise FrameError(
                f"A {pixel_format} frame of {width}x{height} has {size} bytes, over the source's bound of "
                f"{self._max_frame_bytes} (max_frame_mb)."
            )
        return shape


def _demand_size(header: Header, pixel_format: str, expected: int, given: int) -> None:
    if given != expected:
        raise FrameError(
            f"A {pixel_format} frame of {header.width}x{header.height} has {expected} bytes; "
            f"{'the place' if header.format == 'shm' else 'the payload'} has {given}."
        )


def _decode(data: memoryview, kind: type[T], name: str) -> T:
    codec: Any = msgspec.json if is_json(data) else msgspec.msgpack
    try:
        return cast("T", codec.decode(data, type=kind))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"The {name} of {len(data)} bytes is refused: {error}.") from error
