"""What every Source keeps, the fake included. GStreamer's is tested in tests/system."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edgert.capture.camera import CameraSource
from edgert.capture.clip import ClipSource
from edgert.capture.options import SourceOptions
from edgert.capture.replay import ReplaySource
from edgert.capture.source import Source
from edgert.capture.video import FFMPEG
from edgert.capture.zeromq import ZeroMqSource
from edgert.device.host import HostDriver
from edgert.errors import ClosedError, EndOfSourceError, FrameError, SourceError
from edgert.frames.slots import SlotRing
from tests.fakes.source import FakeSource

HEIGHT, WIDTH = 48, 64
LEVELS = (20, 80, 140)  # of the three plain pictures that each source delivers
WAIT_S = 10.0


class Case(NamedTuple):
    """A source that will deliver the three pictures."""

    source: Source
    end: type[Exception] | None  # what comes after them; None: silence
    feed: Callable[[], None] = lambda: None  # sends them, once the source is open


class SourceContract:
    """A subclass gives the fixture `case`."""

    @pytest.fixture
    def slot(self):
        yield from _slot(2**20)

    @pytest.fixture
    def small_slot(self):
        yield from _slot(100)

    @pytest.fixture
    def source(self, case):
        case.source.open()
        case.feed()
        return case.source

    def test_frames_come_in_order_into_the_slot_they_are_given(self, source, slot):
        for level in LEVELS:
            captured = source.read(slot, WAIT_S)
            assert (captured.format, captured.height, captured.width) == ("bgr8", HEIGHT, WIDTH)
            assert np.abs(slot.view((HEIGHT, WIDTH, 3)).astype(int) - level).max() <= 4

    def test_frame_carries_the_time_it_came(self, source, slot):
        first, second = source.read(slot, WAIT_S), source.read(slot, WAIT_S)
        assert 0 < first.captured_mono_ns <= second.captured_mono_ns
        assert 0 < first.captured_utc_ns <= second.captured_utc_ns

    def test_without_a_slot_one_frame_is_discarded_and_described(self, source, slot):
        discarded = source.read(None, WAIT_S)
        assert (discarded.format, discarded.height, discarded.width) == ("bgr8", HEIGHT, WIDTH)
        source.read(slot, WAIT_S)
        assert np.abs(slot.view((HEIGHT, WIDTH, 3)).astype(int) - LEVELS[1]).max() <= 4

    def test_frame_that_the_slot_cannot_hold_is_refused_alone(self, source, slot, small_slot):
        with pytest.raises(FrameError):
            source.read(small_slot, WAIT_S)
        source.read(slot, WAIT_S)
        assert np.abs(slot.view((HEIGHT, WIDTH, 3)).astype(int) - LEVELS[1]).max() <= 4

    def test_after_the_last_frame_it_ends_or_is_silent(self, case, source, slot):
        for _ in LEVELS:
            source.read(slot, WAIT_S)
        for _ in range(2):
            if case.end is None:
                assert source.read(slot, 0.01) is None
            else:
                with pytest.raises(case.end) as end:
                    source.read(slot, WAIT_S)
                assert type(end.value) is case.end

    def test_it_may_be_closed_at_any_time_and_opened_again(self, case, slot):
        case.source.close()
        for _ in range(2):
            case.source.open()
            case.feed()
            assert case.source.read(slot, WAIT_S)
            case.source.close()
            case.source.close()

    def test_reading_while_closed_is_refused(self, case, slot):
        with pytest.raises(ClosedError):
            case.source.read(slot, 0.0)

    def test_counts_are_returned_once(self, source, slot):
        source.read(slot, WAIT_S)
        assert isinstance(source.take_counts(), dict)
        assert source.take_counts() == {}

    def test_processor_time_of_its_own_threads_never_falls(self, source, slot):
        before_ns = source.helper_cpu_ns()
        source.read(slot, WAIT_S)
        between_ns = source.helper_cpu_ns()
        source.close()
        assert 0 <= before_ns <= between_ns <= source.helper_cpu_ns()

    def test_tending_takes_no_frame_and_keeps_its_time(self, source, slot):
        began = time.monotonic()
        source.tend(0.01)
        assert time.monotonic() - began < 1.0
        source.read(slot, WAIT_S)
        assert np.abs(slot.view((HEIGHT, WIDTH, 3)).astype(int) - LEVELS[0]).max() <= 4


@pytest.fixture
def pictures():
    return [np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in LEVELS]


@pytest.fixture
def clip(tmp_path, pictures):
    writer = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (WIDTH, HEIGHT))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return tmp_path / "c.avi"


class TestFakeSource(SourceContract):
    @pytest.fixture
    def case(self, pictures):
        return Case(FakeSource(pictures), EndOfSourceError)


class TestReplaySource(SourceContract):
    @pytest.fixture
    def case(self, pictures):
        return Case(ReplaySource(lambda: pictures), EndOfSourceError)


class TestClipSource(SourceContract):
    @pytest.fixture
    def case(self, clip):
        source = ClipSource(clip, frames_per_s=0.0)
        yield Case(source, EndOfSourceError)
        source.close()


class TestCameraSource(SourceContract):
    @pytest.fixture
    def case(self, clip):
        source = CameraSource(str(clip), FFMPEG)
        yield Case(source, SourceError)
        source.close()


class TestZeroMqSource(SourceContract):
    @pytest.fixture(params=["pull", "router", "rep", "dealer", "sub"])
    def case(self, request, pictures):
        kind, context = request.param, zmq.Context()
        options = SourceOptions(uri=f"{kind}+bind:inproc://{uuid.uuid4()}")
        source = ZeroMqSource("cam", options, encode=lambda _: b"", context=context)
        sender = Sender(context, source, kind, options.uri.partition("bind:")[2], pictures)
        if kind == "rep":
            source = AnsweringSource(source)
        yield Case(source, None, sender.send)
        source.close()
        sender.close()


class Sender:
    """Sends the pictures to a bound source of a kind, anew each time it is asked."""

    _PEERS = {
        "pull": zmq.PUSH,
        "router": zmq.DEALER,
        "rep": zmq.DEALER,
        "dealer": zmq.DEALER,
        "sub": zmq.XPUB,
    }

    def __init__(self, context, source, kind, address, pictures):
        self._context, self._source, self._kind = context, source, kind
        self._address, self._pictures = address, pictures
        self._socket = None

    def send(self):
        self._disconnect()
        self._socket = self._context.socket(self._PEERS[self._kind])
        self._socket.connect(self._address)
        while self._kind == "sub" and not self._socket.poll(1):  # until the subscription has arrived
            self._source.read(None, 0.0)
        envelope = [b""] if self._kind == "rep" else []
        for seq, picture in enumerate(self._pictures):
            header = {"v": 1, "seq": seq, "format": "bgr8", "height": HEIGHT, "width": WIDTH}
            self._socket.send_multipart([*envelope, msgspec.msgpack.encode(header), picture.tobytes()])

    def close(self):
        self._disconnect()
        self._context.term()

    def _disconnect(self):
        if self._socket is not None:
            self._socket.close(linger=0)


class AnsweringSource:
    """A rep source whose frames are answered at once, as it takes no other before."""

    def __init__(self, source):
        self._source = source
        self.open, self.close = source.open, source.close
        self.tend, self.take_counts = source.tend, source.take_counts
        self.helper_cpu_ns = source.helper_cpu_ns

    def read(self, slot, timeout_s):
        captured = self._source.read(slot, timeout_s)
        if captured is not None:
            captured.reply.refuse(FrameError("seen"))
        return captured


def _slot(max_bytes):
    ring = SlotRing(1, max_bytes, HostDriver().allocate)
    slot = ring.acquire_write()
    yield slot
    ring.abandon(slot)
    ring.close()
