"""One source at work: its slots, its capture thread, its connections to models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgert.capture.capture import Capture
from edgert.capture.factory import open_source
from edgert.capture.options import STOP_TIMEOUT_S, SourceOptions
from edgert.capture.state import SourceState
from edgert.device.memory import Buffer
from edgert.errors import BusyError
from edgert.frames.slots import SlotRing
from edgert.pipeline.link import Link
from edgert.pipeline.pipeline import Pipeline
from edgert.pipeline.progress import Pulse
from edgert.pipeline.report import SourceReport, copy_reports
from edgert.publish.payload import ResultEncoder
from edgert.stats import CopyCounts

log = logging.getLogger(__name__)


class RunningSource:
    """Owns a source's slots. It is held until `resume`."""

    def __init__(
        self,
        name: str,
        options: SourceOptions,
        links: Sequence[Link],
        pipeline: Pipeline,
        allocate: Callable[[int], Buffer],
        encoder: ResultEncoder,
        folder: Path,
        on_state: Callable[[SourceState, str], None],
    ) -> None:
        self.failure: Exception | None = None  # what ended the source, if it was not its last frame
        self._links = links
        self._copies = CopyCounts()
        self._ring = SlotRing(options.slots, options.max_frame_bytes, allocate)
        source = open_source(name, options, encode=encoder.encode, folder=folder, copies=self._copies)
        self._capture = Capture(
            name,
            source,
            self._ring,
            options,
            pipeline.admit,
            make_room=lambda: pipeline.make_room(name),
            on_state=on_state,
            on_end=self._ended,
        )

    def start(self) -> None:
        """Open the source, as far as it keeps; frames come after `resume`."""
        self._capture.hold()
        self._capture.start()

    def hold(self) -> None:
        """Take no more frames, but keep the connection, so that answers still reach their senders."""
        self._capture.hold()

    def pause(self) -> None:
        """Close the source until `resume`."""
        self._capture.pause()

    def resume(self) -> None:
        """Let frames in, at first and after `hold` or `pause`."""
        self._capture.resume()

    def close(self) -> None:
        """Stop capturing and free the slots. No frame of this source may be waiting or running.

        A source that hangs, e.g. in an attempt to connect, is left behind with its slots; its thread ends
        with the process.
        """
        try:
            self._capture.stop(STOP_TIMEOUT_S)
        except BusyError as error:
            log.warning("%s It is left behind.", error)
        else:
            self._ring.close()

    @property
    def state(self) -> SourceState:
        """The source's state."""
        return self._capture.stats.state

    @property
    def is_tried(self) -> bool:
        """The first attempt to open it has had an outcome."""
        return self._capture.is_tried

    @property
    def refused(self) -> int:
        """Frames that arrived and were handed to no model."""
        return self._capture.stats.refused.total()

    def pulse(self, name: str, limit_s: float) -> Pulse:
        """Return how far its thread has come. A camera that is away makes it pause, not hang."""
        return Pulse(f"source {name}", self._capture.turns, self._capture.is_idle, limit_s)

    @property
    def cpu_ns(self) -> int:
        """Processor time that its thread has taken; also known after the thread has ended."""
        return self._capture.stats.cpu_ns

    def report(self) -> SourceReport:
        """Return the source's counts."""
        stats = self._capture.stats.summary()
        last_ns = stats.last_frame_mono_ns
        return SourceReport(
            stats.state,
            stats.reason,
            stats.frames,
            stats.refused,
            stats.lost,
            stats.reconnects,
            round((time.monotonic_ns() - last_ns) / 1e6, 1) if last_ns else None,
            self._ring.statistics(),
            copy_reports(self._copies),
            {link.model: link.statistics() for link in self._links},
        )

    def _ended(self, failure: Exception | None) -> None:
        self.failure = failure
