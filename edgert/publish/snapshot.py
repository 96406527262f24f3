"""Pictures for people: now and then a frame of each source, with what was found in it, as JPEG."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np

from edgert.errors import SinkError
from edgert.frames.frame import Frame
from edgert.frames.result import Array, Detections, Output, label_of
from edgert.publish.home_assistant import HomeAssistantOptions

Picture = np.ndarray[Any, np.dtype[np.uint8]]
Colour = tuple[int, int, int]

NEVER_NS = 1 << 63
MAX_BOXES = 100  # drawn, best score first, so that a picture takes a known time
_PALETTE_BGR: tuple[Colour, ...] = (
    (75, 180, 60),
    (75, 25, 230),
    (25, 225, 255),
    (200, 130, 0),
    (48, 130, 245),
    (180, 30, 145),
)
_TEXT_SCALE = 0.4
_MARGIN_PX = 2


class Snapshots:
    """Chooses frames, at most one of each source in `snapshot_s`, and makes pictures of them.

    `wants` counts a frame as taken; whoever asked either encodes it or gives it back. With `only_asked`
    it wants none but the next one after `give_back`.
    """

    def __init__(self, options: HomeAssistantOptions, *, only_asked: bool = False) -> None:
        self._interval_ns = NEVER_NS if only_asked else int(options.snapshot_s * 1e9)
        self._first_due_ns = NEVER_NS if only_asked else 0
        self._quality = options.snapshot_quality
        self._max_side_px = options.snapshot_max_side_px
        self._lock = threading.Lock()
        self._due_ns: dict[str, int] = {}

    def wants(self, source: str, now_mono_ns: int) -> bool:
        """Say whether a picture of this frame is due, and count it as taken. Cheap; any thread."""
        with self._lock:
            if now_mono_ns < self._due_ns.get(source, self._first_due_ns):
                return False
            self._due_ns[source] = now_mono_ns + self._interval_ns
            return True

    def give_back(self, source: str) -> None:
        """Say that a frame that was counted as taken made no picture: the next one is wanted. Any thread."""
        with self._lock:
            self._due_ns[source] = 0

    def encode(self, frame: Frame, output: Output | None = None) -> bytes:
        """Return a JPEG of the frame, its longest side as configured or less, with the boxes of `output`.

        On the caller's thread, for some milliseconds: the decode thread's, which is the one that has a
        frame and its result at once. The slot must stay claimed until the return; its pixels are only
        read. Several threads may encode at a time.

        Raises:
            SinkError: the picture cannot be made.
            FrameError: the frame's format is none.
        """
        import cv2

        image = frame.image()
        try:
            picture_bgr = _scaled_bgr(image, frame.format, self._max_side_px)
            if isinstance(output, Detections):
                _draw(picture_bgr, output, frame.width, frame.height)
            is_made, jpeg = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        except cv2.error as error:
            raise SinkError(f"OpenCV makes no picture of a {frame.format} frame: {error}") from error
        if not is_made:
            raise SinkError(f"OpenCV cannot encode a {frame.format} frame as JPEG.")
        return jpeg.tobytes()


def _scaled_bgr(image: Picture, pixel_format: str, max_side_px: int) -> Picture:
    """Return a copy in BGR, shrunk if a side is longer than `max_side_px`."""
    import cv2

    if pixel_format == "nv12":
        image, pixel_format = cast("Picture", cv2.cvtColor(image, cv2.COLOR_YUV2BGR_NV12)), "bgr8"
    height, width = image.shape[:2]
    shrink = min(1.0, max_side_px / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    scaled = image.copy() if shrink == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    to_bgr = {"rgb8": cv2.COLOR_RGB2BGR, "gray8": cv2.COLOR_GRAY2BGR}.get(pixel_format)
    return cast("Picture", scaled if to_bgr is None else cv2.cvtColor(scaled, to_bgr))


def _draw(picture_bgr: Picture, detections: Detections, width: int, height: int) -> None:
    """Draw boxes that are in pixels of a frame of this size. One that lies outside or is NaN is left out."""
    picture_height, picture_width = picture_bgr.shape[:2]
    corners_xyxy = detections.boxes_xyxy_px[:MAX_BOXES].astype(np.float64)
    corners_xyxy *= np.tile([picture_width / width, picture_height / height], 2)
    last_xyxy = np.tile([picture_width - 1, picture_height - 1], 2)
    for box, score, index in zip(corners_xyxy, detections.scores, detections.class_indices, strict=False):
        if not _is_inside(box, last_xyxy):
            continue
        x0, y0, x1, y1 = box.clip(0, last_xyxy).round().astype(int).tolist()
        text = f"{label_of(detections.labels, int(index))} {score:.2f}"
        _draw_box(picture_bgr, (x0, y0), (x1, y1), text, _PALETTE_BGR[int(index) % len(_PALETTE_BGR)])


def _is_inside(box_xyxy: Array, last_xyxy: Array) -> bool:
    """Say whether some of the box is in the picture."""
    return bool(
        np.isfinite(box_xyxy).all() and (box_xyxy[:2] <= last_xyxy[:2]).all() and (box_xyxy[2:] >= 0).all()
    )


def _draw_box(
    picture_bgr: Picture, first_xy: tuple[int, int], last_xy: tuple[int, int], text: str, colour: Colour
) -> None:
    """Draw a frame, and the text on a filled bar above it, or in it where there is no room above."""
    import cv2

    plain = text.encode("ascii", "replace").decode("ascii")  # OpenCV's fonts have no other letters
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), descent = cv2.getTextSize(plain, font, _TEXT_SCALE, 1)
    bar_height = text_height + descent + 2 * _MARGIN_PX
    bar_width = text_width + 2 * _MARGIN_PX
    x = max(0, min(first_xy[0], picture_bgr.shape[1] - bar_width))
    y = max(0, first_xy[1] - bar_height)
    cv2.rectangle(picture_bgr, first_xy, last_xy, colour, 2)
    cv2.rectangle(picture_bgr, (x, y), (x + bar_width, y + bar_height), colour, -1)
    at = (x + _MARGIN_PX, y + _MARGIN_PX + text_height)
    cv2.putText(picture_bgr, plain, at, font, _TEXT_SCALE, (255, 255, 255), 1, cv2.LINE_AA)
