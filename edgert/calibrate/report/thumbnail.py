"""Small JPEGs for the report."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np

from edgert.errors import FrameError

Picture = np.ndarray[Any, np.dtype[np.uint8]]

MAX_SIDE_PX = 480
MAX_JPEG_BYTES = 120_000
_QUALITIES = (80, 60, 40, 20)


def thumbnail_jpeg(picture_bgr: Picture) -> bytes:
    """Return an (h, w, 3) picture shrunk to MAX_SIDE_PX, in the best quality within MAX_JPEG_BYTES.

    Raises:
        FrameError: no JPEG can be made of it.
    """
    try:
        small = _shrunk(picture_bgr)
        jpegs = (_encoded(small, quality) for quality in _QUALITIES)
        jpeg = next((each for each in jpegs if len(each) <= MAX_JPEG_BYTES), None)
    except cv2.error as error:
        raise FrameError(f"OpenCV makes no JPEG of a picture of {picture_bgr.shape}: {error}") from error
    if jpeg is None:
        raise FrameError(f"A JPEG of {small.shape[1]}x{small.shape[0]} has more than {MAX_JPEG_BYTES} bytes.")
    return jpeg


def _shrunk(picture_bgr: Picture) -> Picture:
    height, width = picture_bgr.shape[:2]
    shrink = MAX_SIDE_PX / max(height, width, 1)
    if shrink >= 1:
        return picture_bgr
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return cast("Picture", cv2.resize(picture_bgr, size, interpolation=cv2.INTER_AREA))


def _encoded(picture_bgr: Picture, quality: int) -> bytes:
    is_made, jpeg = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_made:
        raise FrameError(f"OpenCV cannot encode a picture of {picture_bgr.shape} as JPEG.")
    return jpeg.tobytes()
