"""GStreamer pipelines: their text, and a source for where OpenCV was built without GStreamer."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from edgert.capture.pace import Clock
from edgert.capture.source import Captured
from edgert.capture.uri import masked
from edgert.errors import ClosedError, FrameError, SourceError
from edgert.frames.frame import image_shape
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts

PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
FORMATS = {"BGR": "bgr8", "RGB": "rgb8", "GRAY8": "gray8", "NV12": "nv12"}
_TO_SLOT = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def csi_pipeline(sensor: int, width: int, height: int, frames_per_s: float) -> str:
    """Return the pipeline for a camera on a Jetson's CSI port; a 0 leaves the choice to the driver."""
    caps = "video/x-raw(memory:NVMM)"
    caps += f",width={width}" if width else ""
    caps += f",height={height}" if height else ""
    caps += f",framerate={round(frames_per_s * 1000)}/1000" if frames_per_s else ""
    return f"nvarguscamerasrc sensor-id={sensor} ! {caps} ! nvvidconv ! video/x-raw,format=BGRx ! {_TO_SLOT}"


def with_appsink(pipeline: str) -> str:
    """Return `pipeline`, ended by a conversion to BGR and an appsink if it has none."""
    return pipeline if re.search(r"\bappsink\b", pipeline) else f"{pipeline} ! {_TO_SLOT}"


class GStreamerSource:
    """A pipeline with one appsink, through GStreamer's own Python binding.

    Two copies a frame, both counted: the binding hands out bytes, and these are copied into the slot.
    """

    def __init__(
        self, pipeline: str, *, copies: CopyCounts | None = None, clock: Clock | None = None
    ) -> None:
        self._text = pipeline
        self._copies = copies or CopyCounts()
        self._clock = clock or Clock()
        self._gst: Any = None
        self._pipeline: Any = None
        self._sink: Any = None

    def open(self) -> None:
        """Build the pipeline and set it to playing. Raises SourceError."""
        gst, glib = _import_gstreamer()
        try:
            self._pipeline = gst.parse_launch(self._text)
        except glib.Error as error:
            raise SourceError(f"GStreamer refuses {masked(self._text)!r}: {masked(error.message)}") from error
        self._gst = gst
        self._sink = self._find_sink()
        if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            raise SourceError(self._failure() or f"{masked(self._text)!r} does not start.")

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Copy the next picture into `slot`."""
        if self._pipeline is None:
            raise ClosedError("The pipeline is not open.")
        sample = self._sink.try_pull_sample(int(timeout_s * 1e9))
        if sample is None:
            self._demand_alive()
            return None
        now_ns, utc_ns = self._clock.monotonic_ns(), self._clock.utc_ns()
        pixel_format, height, width = _describe(sample.get_caps())
        if slot is not None:
            self._copy(sample.get_buffer(), slot, pixel_format, height, width)
        return Captured(pixel_format, height, width, now_ns, utc_ns)

    def tend(self, timeout_s: float) -> None:
        """Do nothing: nobody waits for an answer."""

    def close(self) -> None:
        """Stop the pipeline."""
        pipeline, self._pipeline, self._sink = self._pipeline, None, None
        if pipeline is not None:
            pipeline.set_state(self._gst.State.NULL)

    def take_counts(self) -> dict[str, int]:
        """Return nothing: what an appsink drops it does not tell."""
        return {}

    def helper_cpu_ns(self) -> int:
        """Return 0: GStreamer's threads cannot be asked."""
        return 0

    def _find_sink(self) -> Any:
        elements = self._pipeline.iterate_sinks()
        while (found := elements.next())[0] == self._gst.IteratorResult.OK:
            if found[1].get_factory().get_name() == "appsink":
                return found[1]
        raise SourceError(f"{masked(self._text)!r} does not end in an appsink.")

    def _demand_alive(self) -> None:
        failure = self._failure()
        if failure or self._sink.is_eos():
            raise SourceError(failure or "The pipeline has ended.")

    def _failure(self) -> str:
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is None:
            return ""
        error, detail = message.parse_error()
        return masked(f"GStreamer: {error.message} {detail}")

    def _copy(self, buffer: Any, slot: Slot, pixel_format: str, height: int, width: int) -> None:
        """Copy a buffer, whose rows GStreamer pads to multiples of 4 bytes, into `slot`."""
        target = slot.fit(image_shape(pixel_format, height, width))
        row_bytes = target[0].size
        padded_bytes = (row_bytes + 3) & ~3
        data = buffer.extract_dup(0, buffer.get_size())
        if len(data) < padded_bytes * len(target):
            raise FrameError(
                f"A buffer of {len(data)} bytes is too small for {pixel_format} {width}x{height}."
            )
        rows = np.frombuffer(data, np.uint8, padded_bytes * len(target)).reshape(len(target), padded_bytes)
        np.copyto(target.reshape(len(target), row_bytes), rows[:, :row_bytes])
        self._copies.add("host_to_host", len(data) + target.nbytes, copies=2)


def _describe(caps: Any) -> tuple[str, int, int]:
    """Return pixel format, height and width. Raises SourceError if a slot cannot hold the format."""
    structure = caps.get_structure(0)
    name = structure.get_string("format")
    if name not in FORMATS:
        raise SourceError(f"The appsink delivers {name or caps.to_string()}; expected {', '.join(FORMATS)}.")
    return FORMATS[name], structure.get_int("height")[1], structure.get_int("width")[1]


def _import_gstreamer() -> tuple[Any, Any]:
    """Return the modules Gst and GLib, initialised. Raises SourceError that says what to install."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import GLib, Gst, GstApp  # noqa: F401 - GstApp gives appsinks their methods
    except (ImportError, ValueError) as error:
        raise SourceError(
            f"GStreamer is in neither OpenCV nor Python ({error}). Debian's packages are {PACKAGES}; "
            "a virtual environment sees them if made with --system-site-packages."
        ) from error
    Gst.init(None)
    return Gst, GLib
