"""Small JPEGs for the report."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np

from edgert.errors import FrameError

Picture = np.ndarray[Any, np.dtype[np.uint8]]

MAX_SIDE_PX = 480
MAX_JPEG_BYTES = 120_000
OPENCV_VERSION = cv2.__version__
_QUALITIES = (80, 60, 40, 20)
_TO_BGR = {"gray8": cv2.COLOR_GRAY2BGR, "nv12": cv2.COLOR_YUV2BGR_NV12}


def thumbnail_jpeg(picture: Picture, pixel_format: str = "bgr8") -> bytes:
    """Return a picture shrunk to MAX_SIDE_PX, in the best quality within MAX_JPEG_BYTES.

    It is of the format bgr8, gray8 or nv12.

    Raises:
        FrameError: no JPEG can be made of it.
    """
    try:
        small = _shrunk(_as_bgr(picture, pixel_format))
        jpegs = (_encoded(small, quality) for quality in _QUALITIES)
        jpeg = next((each for each in jpegs if len(each) <= MAX_JPEG_BYTES), None)
    except cv2.error as error:
        raise FrameError(
            f"OpenCV makes no JPEG of a {pixel_format} picture of {picture.shape}: {error}"
        ) from error
    if jpeg is None:
        raise FrameError(f"A JPEG of {small.shape[1]}x{small.shape[0]} has more than {MAX_JPEG_BYTES} bytes.")
    return jpeg


def _as_bgr(picture: Picture, pixel_format: str) -> Picture:
    code = _TO_BGR.get(pixel_format)
    return picture if code is None else cast("Picture", cv2.cvtColor(picture, code))


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
