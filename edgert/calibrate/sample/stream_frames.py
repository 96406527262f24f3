"""Frames of anything that capture can open, read on the caller's thread without a service."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

from edgert.calibrate.sample.candidate import Candidate
from edgert.calibrate.sample.clip_time import ClipTime
from edgert.calibrate.sample.options import SampleOptions
from edgert.calibrate.sample.thinning import Thinning
from edgert.capture.connection import Connection
from edgert.capture.factory import open_source
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.source import Captured, Source
from edgert.device.host import HostDriver
from edgert.errors import EndOfSourceError, FrameError, SourceError
from edgert.frames.frame import image_shape
from edgert.frames.result import Result
from edgert.frames.slots import Slot, SlotRing
from edgert.stats import CopyCounts

SLICE_S = 0.2  # longest wait for a frame before time and silence are looked at


class StreamFrames:
    """Frames of one Source, through one slot. Of frames between the n-th ones no pixel is converted.

    A source that cannot be opened at first is an error at once. One that breaks later is opened again, with
    the pauses of the service, until `patience_s` is over.
    """

    is_in_order = True

    def __init__(
        self,
        source: Source,
        options: SourceOptions,
        sample: SampleOptions,
        clock: Clock | None = None,
        clip: Path | None = None,
    ) -> None:
        """`clip` is the file that the source reads, if it reads one."""
        spec = options.spec()
        is_finite = spec.kind == "replay" or (spec.kind == "file" and not options.loop)
        self.total = sample.frames_limit(is_endless=not is_finite)
        self._name = str(spec)
        self._source = source
        self._max_frame_bytes = options.max_frame_bytes
        self._patience_s = 0.0 if is_finite else sample.patience_s
        self._has_senders = spec.kind == "zeromq"  # who may be idle without being lost
        self._clip = clip
        self._clip_time: ClipTime | None = None
        self._has_time = spec.kind != "replay"
        self._clock = clock or Clock()
        self._connection = Connection("sample", source, options, clock=self._clock)
        self._thinning = Thinning(sample.every, sample.frames_per_s, sample.duration_s, self.total)
        self._began_ns = 0
        self._heard_ns = 0  # when the newest frame came
        self._refused = 0
        self._complaint = ""  # of the first frame that was refused

    def read(self) -> Generator[Candidate, None, None]:
        """Yield frames until the source ends, or enough were taken."""
        with ExitStack() as undo:
            ring = SlotRing(1, self._max_frame_bytes, HostDriver().allocate)
            undo.callback(ring.close)
            slot = ring.acquire_write()
            assert slot is not None  # noqa: S101 - a new ring has one
            undo.callback(ring.abandon, slot)
            undo.callback(self._connection.close)
            self._began_ns = self._clock.monotonic_ns()
            try:
                while not self._thinning.is_over(self._clock.monotonic_ns()):
                    yield from self._turn(slot)
            except EndOfSourceError:
                return

    def warnings(self) -> list[str]:
        """Return how many frames the source refused."""
        if not self._refused:
            return []
        return [f"{self._name}: {self._refused} frames were refused, the first: {self._complaint}"]

    def _turn(self, slot: Slot) -> Iterator[Candidate]:
        """Connect, or read one frame."""
        if not self._connection.is_open:
            self._clock.sleep(self._connection.retry_s())
            self._connection.open()
        is_read = self._connection.is_open
        captured = self._read(slot if self._thinning.may_want_next else None) if is_read else None
        if captured is None:
            self._demand_patience()
            return
        number = self._thinning.seen
        self._heard_ns = self._clock.monotonic_ns()
        if self._thinning.take(self._heard_ns):
            image = slot.view(image_shape(captured.format, captured.height, captured.width))
            yield Candidate(image, captured.format, f"{self._name}#{number}", self._time_of(captured, number))

    def _read(self, slot: Slot | None) -> Captured | None:
        try:
            captured = self._source.read(slot, SLICE_S)
        except EndOfSourceError:
            raise
        except FrameError as error:
            self._complaint = self._complaint or str(error)
            self._refused += 1
            captured = None
        except SourceError as error:
            self._connection.lose(error)
            return None
        if captured is None:
            self._connection.watch_silence()
        else:
            self._connection.heard(captured.captured_mono_ns)
        return captured

    def _time_of(self, captured: Captured, number: int) -> int:
        """Return when a frame was; pictures that are replayed from memory have no time, which is 0."""
        if self._clip is None:
            return captured.captured_utc_ns if self._has_time else 0
        self._clip_time = self._clip_time or ClipTime(self._clip)
        return self._clip_time.utc_ns(number)

    def _demand_patience(self) -> None:
        """Raise SourceError if the source is gone, or its senders are silent, and has had its time."""
        stats = self._connection.stats
        silent_ns = self._clock.monotonic_ns() - (self._heard_ns or self._began_ns)
        is_patient = silent_ns < self._patience_s * 1e9
        is_lost = stats.state in ("offline", "stalled") and not (self._heard_ns and is_patient)
        if is_lost or (self._has_senders and not is_patient):
            raise SourceError(f"{self._name}: {stats.reason or f'no frame for {self._patience_s:g} s'}")


def open_stream(sample: SampleOptions, folder: Path, clock: Clock | None = None) -> StreamFrames:
    """Return the frames of `sample.source`; its relative paths begin at `folder`. Raises ConfigError."""
    options = sample.source_options()
    source = open_source(
        "sample", options, encode=_no_payload, folder=folder, copies=CopyCounts(), clock=clock
    )
    spec = options.spec()
    clip = folder / Path(spec.target).expanduser() if spec.kind == "file" else None
    return StreamFrames(source, options, sample, clock, clip)


def _no_payload(_result: Result) -> bytes:
    """Nobody waits for results: endpoints that answer are refused before."""
    return b""
