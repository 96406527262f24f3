"""JPEG and PNG: their size is read, and bounded, before anything is decoded."""

from __future__ import annotations

import struct
from typing import Any, cast

import cv2
import numpy as np

from edgert.errors import FrameError

Bytes = bytes | memoryview

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# JPEG markers (ITU T.81, table B.1): start of frame is C0..CF without DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # restarts, SOI and TEM have no length
_EOI, _SOS = 0xD9, 0xDA
MAX_SEGMENTS = 1000  # before the size; a sender could make us count padding for seconds


def picture_size(picture_format: str, data: Bytes) -> tuple[int, int]:
    """Return (height, width) from the header of a `jpeg` or `png`. Raises FrameError.

    That a JPEG is whole is checked here, that a PNG is by decoding it.
    """
    try:
        height, width = _jpeg_size(data) if picture_format == "jpeg" else _png_size(data)
    except (struct.error, IndexError):
        raise FrameError(
            f"The {picture_format} is cut off: {len(data)} bytes end inside its header."
        ) from None
    if not height or not width:
        raise FrameError(f"The {picture_format} says that it is {width}x{height} pixels.")
    return height, width


def decode_picture(picture_format: str, data: Bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the picture as a new (h, w, 3) BGR array, as stored: an EXIF rotation is not applied.

    Call `picture_size` before; what is decoded takes 3 bytes a pixel. Raises FrameError.
    """
    try:
        picture = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise FrameError(f"The {picture_format} of {len(data)} bytes is corrupt: {error}") from error
    if picture is None:
        raise FrameError(f"The {picture_format} of {len(data)} bytes is corrupt.")
    return cast("np.ndarray[Any, np.dtype[np.uint8]]", picture)


def encode_png(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return a (h, w, 3) BGR or (h, w) array as a PNG, without loss. Raises FrameError."""
    try:
        is_made, png = cv2.imencode(".png", np.ascontiguousarray(picture))
    except cv2.error as error:
        raise FrameError(f"OpenCV makes no PNG of {picture.shape}: {error}") from error
    if not is_made:
        raise FrameError(f"OpenCV makes no PNG of {picture.shape}.")
    return bytes(png.data)


def _png_size(data: Bytes) -> tuple[int, int]:
    """Read IHDR, which has to be the first chunk (PNG specification, 11.2.2)."""
    if bytes(data[:8]) != PNG_SIGNATURE or bytes(data[12:16]) not in (b"IHDR", b""):
        raise FrameError(f"The png begins with {bytes(data[:16])!r}, which is no PNG.")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg_size(data: Bytes) -> tuple[int, int]:
    """Walk the segments up to the start of frame (ITU T.81, B.2.2)."""
    if bytes(data[:2]) != b"\xff\xd8":
        raise FrameError(f"The jpeg begins with {bytes(data[:4])!r}, which is no JPEG.")
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at] != 0xFF:
            raise FrameError(f"The jpeg is corrupt: no marker at byte {at}.")
        marker = data[at + 1]
        if marker in _SOF:
            _, height, width = struct.unpack_from(">BHH", data, at + 4)
            _demand_end(data, at)
            return height, width
        if marker in (_EOI, _SOS):
            raise FrameError("The jpeg is corrupt: pixels before their size.")
        at += _segment_bytes(data, at, marker)
    raise FrameError(f"The jpeg is corrupt: no size in its first {MAX_SEGMENTS} segments.")


def _demand_end(data: Bytes, frame_at: int) -> None:
    """Refuse a picture that was cut off, which libjpeg would fill up with grey.

    Coded pixels cannot contain the end marker; a thumbnail's stands before the start of frame.
    """
    if bytes(data).rfind(b"\xff\xd9") < frame_at:
        raise FrameError(f"The jpeg is cut off: {len(data)} bytes without an end marker.")


def _segment_bytes(data: Bytes, at: int, marker: int) -> int:
    """Return how far the next marker is. A marker may be padded with any number of FF."""
    if marker == 0xFF:
        return 1
    return 2 if marker in _BARE else 2 + struct.unpack_from(">H", data, at + 2)[0]
