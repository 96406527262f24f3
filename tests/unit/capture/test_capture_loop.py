from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from edgert.capture.capture import NO_SLOT_SLICE_S, SLICE_S, Capture
from edgert.capture.options import SourceOptions
from edgert.capture.replay import ReplaySource, make_noise
from edgert.device.host import HostDriver
from edgert.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    DeviceError,
    FrameError,
    ModelError,
    OutOfDeviceMemoryError,
    SourceError,
)
from edgert.frames.slots import SlotRing, SlotState
from tests.fakes.source import FakeReply, FakeSource

PICTURE = np.full((4, 6, 3), 7, np.uint8)


class StingyRing(SlotRing):
    """Instead of waiting for a slot, calls `when_empty`; remembers how long it was to wait."""

    def __init__(self, when_empty=lambda: None):
        super().__init__(2, 2**20, HostDriver().allocate)
        self.when_empty = when_empty
        self.waits_s = []

    def acquire_write(self, timeout_s=0.0):
        slot = super().acquire_write()
        if slot is None and timeout_s:
            self.waits_s.append(timeout_s)
            self.when_empty()
        return slot


@pytest.fixture
def stingy():
    ring = StingyRing()
    yield ring
    ring.close(timeout_s=0)


@pytest.fixture
def make(ring, clock):
    """Return a function that makes a Capture of a script; `run` it in the test's own thread."""

    def make_capture(script, uri="replay:noise", *, on_ring=ring, deliver=None, source=None, **options):
        calls = {name: options.pop(name) for name in ("make_room", "on_state", "on_end") if name in options}
        source = source or FakeSource(script, clock, reply=options.pop("reply", None))
        deliver = deliver or (lambda frame: on_ring.commit(frame.slot, 0))
        chosen = SourceOptions(uri=uri, **options)
        return Capture("cam", source, on_ring, chosen, deliver, clock=clock, jitter=lambda: 0.0, **calls)

    return make_capture


def test_every_frame_is_delivered_in_order_with_its_slot_still_being_written(make, ring, clock):
    frames = []

    def deliver(frame):
        frames.append((frame.seq, frame.source, frame.format, frame.height, frame.width, frame.slot.state))
        assert frame.image().tolist() == PICTURE.tolist()
        assert (frame.captured_mono_ns, frame.captured_utc_ns) == (clock.monotonic_ns(), clock.utc_ns())
        ring.commit(frame.slot, 0)

    capture = make([PICTURE] * 3, deliver=deliver)
    capture.run()
    assert frames == [(seq, "cam", "bgr8", 4, 6, SlotState.WRITING) for seq in range(3)]
    assert (capture.stats.frames, capture.stats.refused.total()) == (3, 0)


def test_end_of_a_source_is_told_after_its_last_frame(make):
    told = []
    capture = make(
        [PICTURE],
        deliver=None,
        on_state=lambda state, reason: told.append((state, reason)),
        on_end=told.append,
    )
    capture.run()
    assert told == [("online", ""), ("ended", "The script has ended."), None]
    assert capture.stats.reason == "The script has ended."


def test_every_waits_for_a_slot_and_loses_nothing(make, stingy):
    held = []

    def deliver(frame):
        stingy.commit(frame.slot, 1)
        held.append(frame)

    stingy.when_empty = lambda: held.pop(0).slot.release()
    capture = make([PICTURE] * 5, on_ring=stingy, deliver=deliver)
    capture.run()
    assert (capture.stats.frames, capture.stats.refused.total(), stingy.waits_s) == (5, 0, [SLICE_S] * 4)
    for frame in held:
        frame.slot.release()


def test_while_requests_wait_for_a_slot_answers_are_sent(make, stingy):
    held = []

    def deliver(frame):
        stingy.commit(frame.slot, 1)
        held.append(frame)

    stingy.when_empty = lambda: held.pop(0).slot.release()
    capture = make([PICTURE] * 3, "router+bind:inproc://a", on_ring=stingy, deliver=deliver)
    capture.run()
    assert capture._source.calls.count("tend") == 2
    assert stingy.waits_s == [NO_SLOT_SLICE_S] * 2
    for frame in held:
        frame.slot.release()


def test_latest_asks_for_room_before_it_drops(make, ring):
    held, asked = [], []

    def deliver(frame):
        ring.commit(frame.slot, 1)
        held.append(frame)

    def make_room():
        asked.append(True)
        held.pop(0).slot.release()
        return True

    capture = make([PICTURE] * 4, "csi:0", deliver=deliver, make_room=make_room)
    capture.run()
    assert (len(asked), capture.stats.refused.total(), [frame.seq for frame in held]) == (3, 0, [3])
    held[0].slot.release()


def test_latest_without_room_drops_and_counts_the_newest(make, ring):
    held, reply = [], FakeReply()

    def deliver(frame):
        ring.commit(frame.slot, 1)
        held.append(frame)

    capture = make([PICTURE] * 5, "csi:0", deliver=deliver, reply=reply)
    capture.run()
    assert [frame.seq for frame in held] == [0, 1]
    assert (capture.stats.frames, capture.stats.refused.snapshot()) == (5, {"no_slot": 3})
    assert [type(error) for error in reply.refused] == [BusyError] * 3
    for frame in held:
        frame.slot.release()


def test_dropped_frames_leave_a_gap_in_the_numbers(make, ring):
    held, seqs = [], []

    def deliver(frame):
        ring.commit(frame.slot, 1)
        held.append(frame)
        seqs.append(frame.seq)

    def free():
        held.pop().slot.release()
        return PICTURE

    make([PICTURE, PICTURE, PICTURE, free, PICTURE], "csi:0", deliver=deliver).run()
    assert seqs == [0, 1, 4]
    for frame in held:
        frame.slot.release()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(FrameError("bad"), "frame_error"), (OutOfDeviceMemoryError("full"), "out_of_device_memory_error")],
)
def test_refused_frame_is_counted_and_the_source_goes_on(make, error, reason):
    delivered = []
    capture = make([PICTURE, error, error, PICTURE])
    capture._deliver = lambda frame: (delivered.append(frame.seq), capture._ring.commit(frame.slot, 0))
    capture.run()
    assert delivered == [0, 1]
    assert (capture.stats.frames, capture.stats.refused.snapshot()) == (4, {reason: 2})


def test_refused_frames_are_warned_of_once_a_minute(make, clock, caplog):
    caplog.set_level(logging.DEBUG)

    def minute_later():
        clock.now_ns += 60 * 10**9
        return FrameError("bad")

    make([FrameError("bad"), PICTURE, FrameError("bad"), minute_later]).run()
    levels = [record.levelname for record in caplog.records if "refused" in record.getMessage()]
    assert levels == ["WARNING", "DEBUG", "WARNING"]


def test_broken_source_is_closed_and_opened_again_after_a_pause(make, clock):
    source = FakeSource([PICTURE, SourceError("cable"), PICTURE], clock)
    states = []
    capture = make([], "csi:0", source=source, on_state=lambda state, reason: states.append((state, reason)))
    capture.run()
    assert states == [
        ("online", ""),
        ("offline", "cable"),
        ("online", ""),
        ("ended", "The script has ended."),
    ]
    assert source.calls == ["open", "close", "open", "close"]
    assert (capture.stats.frames, capture.stats.reconnects, clock.pauses_s) == (2, 1, [0.5])


def test_camera_absent_at_start_is_found_later(make, clock):
    source = FakeSource([PICTURE], clock, openings=[SourceError("away")] * 3)
    capture = make([], "v4l2:/dev/video0", source=source)
    capture.run()
    assert (capture.stats.frames, len(clock.pauses_s)) == (1, 3)


def test_camera_that_freezes_is_opened_again(make, clock):
    source = FakeSource([PICTURE, *[None] * 5, PICTURE], clock)
    states = []
    make([], "csi:0", source=source, stall_s=1.0, on_state=lambda state, _: states.append(state)).run()
    assert states == ["online", "stalled", "online", "ended"]
    assert source.calls == ["open", "close", "open", "close"]


def test_pause_closes_the_source_and_resume_opens_it(make, clock):
    def pause():
        capture.pause()
        return PICTURE

    source = FakeSource([pause, PICTURE], clock)
    states = []
    capture = make([], source=source, on_state=lambda state, _: states.append(state))
    clock.on_wait = capture.resume
    capture.run()
    assert states == ["online", "disabled", "connecting", "online", "ended"]
    assert source.calls == ["open", "close", "open", "close"]
    assert capture.stats.frames == 2


def test_stop_ends_a_pause(make, clock):
    capture = make([PICTURE])
    capture.pause()
    clock.on_wait = capture.stop
    capture.run()
    assert (capture.stats.state, capture.stats.frames) == ("disabled", 0)


def test_stop_ends_the_pause_before_a_retry(make, clock):
    source = FakeSource([], clock, openings=[SourceError("away")] * 3)
    capture = make([], "csi:0", source=source)
    clock.on_wait = capture.stop
    capture.run()
    assert source.calls == ["open", "close", "close"]


def test_held_source_delivers_nothing_but_sends_answers(make, clock):
    reply, delivered = FakeReply(), []

    def hold():
        capture.hold()
        return PICTURE

    source = FakeSource([hold, PICTURE], clock, reply=reply)
    capture = make([], "router+bind:inproc://a", source=source, deliver=delivered.append)
    source.tend = lambda timeout_s: timeout_s and capture.stop()
    capture.run()
    assert delivered == []
    assert capture.stats.refused.snapshot() == {"held": 1}
    assert str(reply.refused[0]) == "Source cam takes no frames at the moment."


def test_what_is_lost_while_a_source_is_held_is_counted_meanwhile(make, clock):
    seen = []

    def tend(timeout_s):
        seen.append(capture.stats.lost.snapshot())
        source.counts = {"gap": 2}
        if len(seen) == 3:
            capture.stop()

    source = FakeSource([PICTURE], clock)
    capture = make([], "router+bind:inproc://a", source=source)
    source.tend = tend
    source.open()
    capture._connection.open()
    capture.hold()
    capture.run()
    assert seen == [{}, {"gap": 2}, {"gap": 4}]


def test_held_camera_waits_until_it_is_resumed(make, clock):
    capture = make([PICTURE])
    capture.hold()
    clock.on_wait = capture.resume
    capture.run()
    assert (capture.stats.frames, clock.pauses_s) == (1, [SLICE_S])


def test_frame_that_the_pipeline_refuses_frees_its_slot_and_answers(make, ring):
    reply = FakeReply()

    def deliver(frame):
        raise ModelError("no such model")

    capture = make([PICTURE], deliver=deliver, reply=reply)
    capture.run()
    assert capture.stats.refused.snapshot() == {"model_error": 1}
    assert [str(error) for error in reply.refused] == ["no such model"]
    assert ring.statistics().used == 0


def test_frame_that_was_answered_before_its_delivery_failed_is_not_answered_twice(make):
    reply = FakeReply()
    reply.refuse = lambda error: (_ for _ in ()).throw(ClosedError("answered"))

    def deliver(frame):
        raise BusyError("full")

    capture = make([PICTURE], deliver=deliver, reply=reply)
    capture.run()
    assert (capture.stats.refused.snapshot(), capture.stats.reason) == (
        {"busy_error": 1},
        "The script has ended.",
    )


def test_unforeseen_failure_is_logged_once_and_the_source_opened_again(make, ring, clock, caplog):
    caplog.set_level(logging.DEBUG)
    failures, told, states = [RuntimeError("a bug") for _ in range(3)], [], []
    source = FakeSource([PICTURE, *failures, PICTURE], clock)
    capture = make([], source=source, on_end=told.append, on_state=lambda *change: states.append(change))
    capture.run()
    assert (capture.stats.frames, capture.stats.reconnects, told) == (2, 3, [None])
    assert capture.stats.lost.snapshot() == {"unforeseen": 3}
    assert source.calls == ["open", "close"] * 4
    assert len(clock.pauses_s) == 3
    assert states[1] == ("offline", "broke: RuntimeError('a bug').")
    records = [record for record in caplog.records if "did not foresee" in record.getMessage()]
    assert [record.levelname for record in records] == ["ERROR", "DEBUG", "DEBUG"]
    assert records[0].exc_info[1].__cause__ is failures[0]
    assert ring.statistics().used == 0


def test_unforeseen_failures_to_open_are_tried_again_ever_more_slowly(make, clock):
    source = FakeSource([PICTURE], clock, openings=[OSError("x"), DeviceError("y"), OSError("z")])
    capture = make([], "csi:0", source=source, retry_min_s=1.0)
    capture._connection._jitter = lambda: 1.0
    capture.run()
    assert (capture.stats.frames, capture.stats.lost.snapshot()) == (1, {"unforeseen": 3})
    assert clock.pauses_s == [2.0, 4.0, 8.0]


def test_unforeseen_failure_of_a_delivery_frees_the_slot_and_answers(make, ring):
    reply, delivered = FakeReply(), []

    def deliver(frame):
        delivered.append(frame.seq)
        if len(delivered) == 1:
            raise KeyError("a bug")
        ring.commit(frame.slot, 0)

    capture = make([PICTURE, PICTURE], deliver=deliver, reply=reply)
    capture.run()
    assert delivered == [0, 1]
    assert capture.stats.refused.snapshot() == {"unforeseen_error": 1}
    assert capture.stats.lost.snapshot() == {"unforeseen": 1}
    assert [error.status for error in reply.refused] == ["unforeseen_error"]
    assert ring.statistics().used == 0


def test_wrong_configuration_ends_the_source_and_is_told(make, ring, clock, caplog):
    told, failure = [], ConfigError("more than memory may hold")
    capture = make([], source=FakeSource([], clock, openings=[failure]), on_end=told.append)
    capture.run()
    assert told == [failure]
    assert (capture.stats.state, capture.stats.reason) == ("ended", "more than memory may hold")
    assert caplog.records[0].levelname == "ERROR"


def test_camera_of_which_no_frame_can_be_used_is_opened_again(make, clock):
    def useless():
        clock.now_ns += 400_000_000
        return FrameError("cannot be decoded")

    source = FakeSource([PICTURE, useless, useless, useless, PICTURE], clock)
    states = []
    capture = make([], "csi:0", source=source, stall_s=1.0, on_state=lambda state, _: states.append(state))
    capture.run()
    assert states == ["online", "stalled", "online", "ended"]
    assert source.calls == ["open", "close", "open", "close"]
    assert capture.stats.refused.snapshot() == {"frame_error": 3}


def test_lack_of_memory_is_no_silence_of_the_camera(make, clock):
    def out_of_memory():
        clock.now_ns += 400_000_000
        return OutOfDeviceMemoryError("full")

    source = FakeSource([PICTURE, *[out_of_memory] * 5, PICTURE], clock)
    make([], "csi:0", source=source, stall_s=1.0).run()
    assert source.calls == ["open", "close"]


def test_processor_time_of_a_sources_own_threads_is_counted(make, clock):
    source = FakeSource([PICTURE], clock)
    source.helper_ns = 10**15
    capture = make([], source=source)
    capture.run()
    assert 10**15 < capture.stats.cpu_ns < 2 * 10**15


def test_what_a_source_lost_by_itself_is_counted(make, clock):
    source = FakeSource([PICTURE, None], clock)
    source.counts = {"gap": 3}
    capture = make([], source=source)
    capture.run()
    assert capture.stats.lost.snapshot() == {"gap": 3}
    assert capture.stats.cpu_ns > 0


def test_thread_stops_while_it_waits_for_a_slot(ring):
    full = threading.Event()
    held = []

    def deliver(frame):
        ring.commit(frame.slot, 1)
        held.append(frame)
        if len(held) == 2:
            full.set()

    source = ReplaySource(lambda: make_noise(8, 8, 1, 0), total=-1)
    capture = Capture("cam", source, ring, SourceOptions(uri="replay:noise", loop=True), deliver)
    capture.start()
    assert full.wait(10)
    capture.stop()
    for frame in held:
        frame.slot.release()


def test_thread_that_hangs_is_named(make):
    begun, released = threading.Event(), threading.Event()

    def hang():
        begun.set()
        released.wait(10)

    capture = make([hang])
    capture.start()
    begun.wait(10)
    with pytest.raises(BusyError, match=r"Source cam has not stopped within 0 s"):
        capture.stop(timeout_s=0)
    released.set()
    capture.stop()


def test_stop_before_start_does_nothing(make):
    make([PICTURE]).stop()
