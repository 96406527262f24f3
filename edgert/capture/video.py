"""OpenCV's video reader: pictures straight into slots, its failures as edgert's errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import cv2
import numpy as np

from edgert.capture.uri import masked
from edgert.errors import FrameError, SourceError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts, LiveCount

FFMPEG, GSTREAMER, V4L2 = int(cv2.CAP_FFMPEG), int(cv2.CAP_GSTREAMER), int(cv2.CAP_V4L2)

Picture = np.ndarray[Any, np.dtype[np.uint8]]


class Video:
    """One open reader, for one thread at a time. Opening, `grab` and `close` may block.

    `settings` are numbers of OpenCV's properties, each followed by its value. Raises SourceError if
    it cannot be opened.
    """

    live: ClassVar[LiveCount] = LiveCount("video")

    def __init__(self, target: str, backend: int, settings: Sequence[int], copies: CopyCounts) -> None:
        _silence_libraries()
        self._name = masked(target)
        self._copies = copies
        self._capture = cv2.VideoCapture(target, backend, list(settings))
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self._name} cannot be opened{_reason(target, backend, settings)}.")
        self.live.opened()
        self.shape: tuple[int, ...] = (
            self._size(cv2.CAP_PROP_FRAME_HEIGHT),
            self._size(cv2.CAP_PROP_FRAME_WIDTH),
            3,
        )

    @property
    def frames_per_s(self) -> float:
        """The rate that the container names; 25 where it names none that can be."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0.01 < rate <= 1000 else 25.0

    @property
    def format(self) -> str:
        """Pixel format of the newest picture."""
        return "bgr8" if len(self.shape) == 3 else "gray8"

    def grab(self) -> bool:
        """Take the next picture from the stream, not yet converted; False where none follows."""
        return bool(self._capture.grab())

    def retrieve(self, target: Picture | None = None) -> Picture:
        """Return the grabbed picture: in `target` if it fits there, else in new memory.

        Raises FrameError if it cannot be decoded.
        """
        try:
            is_good, picture = self._capture.retrieve(target)
        except cv2.error as error:
            raise FrameError(f"{self._name}: a picture cannot be decoded: {error}") from error
        if not is_good:
            raise FrameError(f"{self._name}: a picture cannot be decoded.")
        is_flat = picture.ndim == 3 and picture.shape[2] == 1
        return cast("Picture", picture[:, :, 0] if is_flat else picture)

    def retrieve_into(self, slot: Slot) -> None:
        """Convert the grabbed picture into `slot`: in place, or with one counted copy if its size changed.

        Raises FrameError if it cannot be decoded, or is larger than the slot may become.
        """
        target = slot.fit(self.shape) if min(self.shape) > 0 else None
        picture = self.retrieve(target)
        if picture is target:
            return
        self.shape = picture.shape
        target = slot.fit(self.shape)
        if not np.may_share_memory(picture, target):
            np.copyto(target, picture)
            self._copies.add("host_to_host", picture.nbytes)

    def close(self) -> None:
        """Disconnect."""
        self._capture.release()
        self.live.closed()

    def _size(self, setting: int) -> int:
        return max(0, int(self._capture.get(setting)))


def network_settings(open_timeout_s: float, read_timeout_s: float) -> list[int]:
    """Return settings for FFmpeg: it gives up after these times; 0 leaves its own.

    One decoder thread: several would each hold back a frame.
    """
    return _flat(
        {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: open_timeout_s * 1000,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: read_timeout_s * 1000,
            getattr(cv2, "CAP_PROP_N_THREADS", 0): 1,  # OpenCV has it since 4.7
        }
    )


def device_settings(width: int, height: int, frames_per_s: float, fourcc: str) -> list[int]:
    """Return settings for V4L2; 0 or empty leaves the choice to the camera."""
    return _flat(
        {
            cv2.CAP_PROP_FOURCC: int.from_bytes(fourcc.encode("ascii"), "little"),
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FPS: frames_per_s,
        }
    )


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer, as JetPack's is and PyPI's is not."""
    return bool(cv2.videoio_registry.hasBackend(GSTREAMER))


def opencv_features() -> dict[str, str]:
    """Return OpenCV's version and what it can read, for people."""
    backends = {"FFmpeg": FFMPEG, "GStreamer": GSTREAMER, "V4L2": V4L2}
    has = {name: bool(cv2.videoio_registry.hasBackend(number)) for name, number in backends.items()}
    return {"version": cv2.__version__} | {name: "yes" if it_has else "no" for name, it_has in has.items()}


def _flat(settings: dict[int, float]) -> list[int]:
    """Return numbers and values in turn, without those whose number or value is 0."""
    return [round(word) for number, value in settings.items() if number and value for word in (number, value)]


def _reason(target: str, backend: int, settings: Sequence[int]) -> str:
    """Say what can be seen from outside; OpenCV itself gives no reason."""
    if "://" in target or backend == GSTREAMER:
        return ""
    if not Path(target).exists():
        return ": there is no such file or device"
    if not os.access(target, os.R_OK):
        return ": this user may not read it"
    return ": it may be in use, or refuse the size, rate or fourcc asked for" if settings else ""


def _silence_libraries() -> None:
    """Let edgert alone report: a camera that is away would fill the log line by line.

    OPENCV_LOG_LEVEL and OPENCV_FFMPEG_LOGLEVEL, where set, stay in force.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # OpenCV 5 moved it
