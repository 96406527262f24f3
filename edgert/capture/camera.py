"""Live cameras through OpenCV. A thread of the camera waits for it, so that nobody else has to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from edgert.capture.pace import Clock
from edgert.capture.source import Captured
from edgert.capture.unforeseen import UnforeseenError, unforeseen_as
from edgert.capture.uri import masked
from edgert.capture.video import Video
from edgert.errors import ClosedError, EdgertError, SourceError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts, LiveCount

CLOSE_WAIT_S = 0.25  # a camera that hangs is left to close by itself, later


class CameraSource:
    """A camera that OpenCV opens and waits for in a thread of its own (`Grabber`).

    `open` returns at once; a camera that cannot be opened makes a later `read` raise. The reading
    thread converts the picture, straight into the slot. `settings` are those of `Video`.
    """

    def __init__(
        self,
        target: str,
        backend: int,
        settings: Sequence[int] = (),
        *,
        copies: CopyCounts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._target = target
        self._backend = backend
        self._settings = settings
        self._copies = copies or CopyCounts()
        self._clock = clock or Clock()
        self._grabber: Grabber | None = None
        self._earlier_cpu_ns = 0  # of grabbers that have ended

    def open(self) -> None:
        """Begin to connect. Raises SourceError while an earlier connection hangs."""
        if self._grabber is not None and self._grabber.is_alive():
            raise SourceError(f"{masked(self._target)}: the connection before has not closed yet.")
        self._earlier_cpu_ns = self.helper_cpu_ns()
        self._grabber = Grabber(masked(self._target), self._open_video, self._clock)
        self._grabber.start()

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Convert the next picture into `slot`."""
        grabber = self._grabber
        if grabber is None:
            raise ClosedError(f"{masked(self._target)} is not open.")
        video = grabber.wait(timeout_s)
        if video is None:
            return None
        try:
            if slot is not None:
                video.retrieve_into(slot)
            height, width = video.shape[:2]
            return Captured(video.format, height, width, grabber.grabbed_mono_ns, grabber.grabbed_utc_ns)
        finally:
            grabber.resume()

    def tend(self, timeout_s: float) -> None:
        """Do nothing: nobody waits for an answer."""

    def close(self) -> None:
        """Disconnect; a camera that hangs does so when its own timeouts end."""
        if self._grabber is not None:
            self._grabber.stop(CLOSE_WAIT_S)

    def take_counts(self) -> dict[str, int]:
        """Return nothing: what a camera drops by itself it does not tell."""
        return {}

    def helper_cpu_ns(self) -> int:
        """Return the processor time of the grabbers: receiving, and decoding where FFmpeg does it."""
        return self._earlier_cpu_ns + (self._grabber.cpu_ns if self._grabber is not None else 0)

    def _open_video(self) -> Video:
        return Video(self._target, self._backend, self._settings, self._copies)


class Grabber:
    """Opens a video and grabs from it in a thread, one picture ahead of its only reader."""

    live: ClassVar[LiveCount] = LiveCount("grabber thread")

    def __init__(self, name: str, open_video: Callable[[], Video], clock: Clock) -> None:
        self.grabbed_mono_ns = 0
        self.grabbed_utc_ns = 0
        self.cpu_ns = 0  # of the thread, up to its newest picture or its end
        self._name = name
        self._open_video = open_video
        self._clock = clock
        self._video: Video | None = None
        self._failure: EdgertError = SourceError(f"{name} has stopped delivering pictures.")
        self._grabbed = threading.Semaphore(0)
        self._converted = threading.Semaphore(0)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="capture:camera", daemon=True)

    def start(self) -> None:
        """Begin to open and grab."""
        self.live.opened()
        self._thread.start()

    def wait(self, timeout_s: float) -> Video | None:
        """Return the video with a picture grabbed, the caller's until `resume`; None if time runs out.

        Raises SourceError once the video has ended or could not be opened, UnforeseenError for what else
        ended the thread.
        """
        if not self._grabbed.acquire(timeout=timeout_s):
            return None
        if self._video is None:
            self._grabbed.release()
            raise self._failure
        return self._video

    def resume(self) -> None:
        """Grab the next picture."""
        self._converted.release()

    def stop(self, timeout_s: float) -> None:
        """Ask the thread to close the video and end, and wait for that at most `timeout_s`."""
        self._is_stopping = True
        self._converted.release()
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        """Whether the thread still holds the camera."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with unforeseen_as(UnforeseenError, f"{self._name} broke"):
                self._grab_all(self._open_video())
        except EdgertError as error:
            self._failure = error
        finally:
            self._video = None
            self.cpu_ns = time.thread_time_ns()
            self.live.closed()
            self._grabbed.release()

    def _grab_all(self, video: Video) -> None:
        try:
            while not self._is_stopping and video.grab():
                self.grabbed_mono_ns = self._clock.monotonic_ns()
                self.grabbed_utc_ns = self._clock.utc_ns()
                self.cpu_ns = time.thread_time_ns()
                self._video = video
                self._grabbed.release()
                self._converted.acquire()
        finally:
            video.close()
