from __future__ import annotations

import logging

import pytest

from edgert.capture.connection import Connection
from edgert.capture.options import SourceOptions
from edgert.errors import EndOfSourceError, SourceError
from tests.fakes.source import FakeSource


@pytest.fixture
def states():
    return []


@pytest.fixture
def connect(clock, states):
    def make(uri, *, openings=(), jitter=lambda: 1.0, **options):
        source = FakeSource([], clock, openings=openings)
        return Connection(
            "cam",
            source,
            SourceOptions(uri=uri, **options),
            clock=clock,
            on_state=lambda *change: states.append(change),
            jitter=jitter,
        )

    return make


def pass_time(clock, seconds):
    clock.now_ns += round(seconds * 1e9)


def test_camera_is_online_with_its_first_frame(connect, clock, states):
    connection = connect("rtsp://cam/x")
    connection.open()
    assert (connection.is_open, connection.stats.state) == (True, "connecting")
    connection.heard(clock.now_ns)
    assert states == [("online", "")]


@pytest.mark.parametrize(
    "uri", ["file:a.mp4", "replay:noise", "router+bind:inproc://a", "pull+bind:inproc://a"]
)
def test_source_that_may_be_idle_is_online_when_open_and_never_stalls(connect, clock, states, uri):
    connection = connect(uri)
    connection.open()
    pass_time(clock, 1e6)
    connection.watch_silence()
    assert states == [("online", "")]


def test_pauses_double_up_to_the_cap_and_start_over_with_a_frame(connect, clock):
    connection = connect("csi:0", openings=[SourceError("away")] * 8, retry_min_s=0.5, retry_max_s=10.0)
    pauses = [connection.retry_s()]
    for _ in range(7):
        connection.open()
        pauses.append(connection.retry_s())
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    connection.heard(clock.now_ns)
    assert connection.retry_s() == 0.0


@pytest.mark.parametrize(("jitter", "pause_s"), [(0.0, 0.5), (0.5, 1.25), (1.0, 2.0)])
def test_pause_is_random_between_the_shortest_and_its_limit(connect, jitter, pause_s):
    connection = connect("csi:0", openings=[SourceError("away")] * 2, jitter=lambda: jitter)
    connection.open()
    connection.open()
    assert connection.retry_s() == pause_s


def test_failed_opening_is_offline_with_its_reason(connect, states):
    connection = connect("csi:0", openings=[SourceError("no sensor")])
    connection.open()
    assert not connection.is_open
    assert states == [("offline", "no sensor")]


def test_source_with_nothing_to_deliver_ends_rather_than_being_tried_again(connect):
    with pytest.raises(EndOfSourceError):
        connect("replay:a.mp4", openings=[EndOfSourceError("no frame")]).open()


def test_silent_camera_is_stalled_and_closed(connect, clock, states):
    connection = connect("csi:0", stall_s=5.0)
    connection.open()
    connection.heard(clock.now_ns)
    pass_time(clock, 4.9)
    connection.watch_silence()
    assert connection.is_open
    pass_time(clock, 0.1)
    connection.watch_silence()
    assert not connection.is_open
    assert states[-1] == ("stalled", "no frame for 5 s")
    assert connection.retry_s() > 0


def test_camera_may_take_longer_for_its_first_frame(connect, clock, states):
    connection = connect("csi:0", stall_s=5.0, open_timeout_s=15.0)
    connection.open()
    pass_time(clock, 14.9)
    connection.watch_silence()
    assert states == []
    pass_time(clock, 0.1)
    connection.watch_silence()
    assert states == [("stalled", "no frame for 15 s")]


def test_silent_subscription_is_stalled_but_stays_open(connect, clock, states):
    connection = connect("sub+connect:inproc://a", stall_s=5.0)
    connection.open()
    pass_time(clock, 5)
    connection.watch_silence()
    connection.watch_silence()
    assert connection.is_open
    connection.heard(clock.now_ns)
    assert states == [("stalled", "no frame for 5 s"), ("online", "")]
    assert connection.stats.reconnects == 0


def test_stall_time_zero_never_stalls(connect, clock, states):
    connection = connect("csi:0", stall_s=0.0)
    connection.open()
    pass_time(clock, 1e6)
    connection.watch_silence()
    assert states == []


def test_silence_does_not_count_while_nobody_listens(connect, clock, states):
    connection = connect("csi:0", policy="every", stall_s=5.0, open_timeout_s=5.0)
    connection.open()
    connection.heard(clock.now_ns)
    pass_time(clock, 60)
    connection.excuse_silence()
    connection.watch_silence()
    assert states == [("online", "")]


def test_state_stays_stalled_until_a_frame_comes_or_opening_fails(connect, clock, states):
    connection = connect("csi:0", openings=[None, SourceError("away"), None])
    connection.open()
    connection.heard(clock.now_ns)
    pass_time(clock, 5)
    connection.watch_silence()
    connection.open()
    connection.open()
    connection.heard(clock.now_ns)
    assert [state for state, _ in states] == ["online", "stalled", "offline", "online"]
    assert connection.stats.reconnects == 1


def test_first_connection_is_no_reconnection(connect, clock):
    connection = connect("csi:0", openings=[SourceError("away")])
    connection.open()
    connection.open()
    connection.heard(clock.now_ns)
    assert connection.stats.reconnects == 0


def test_outage_is_warned_of_once(connect, clock, caplog):
    caplog.set_level(logging.DEBUG)
    connection = connect("csi:0", openings=[SourceError("a"), SourceError("b"), None, SourceError("c")])
    for _ in range(3):
        connection.open()
    connection.heard(clock.now_ns)
    connection.lose(SourceError("broke"))
    connection.open()
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [
        ("WARNING", "source cam is offline: a"),
        ("DEBUG", "source cam is offline: b"),
        ("INFO", "source cam is online"),
        ("WARNING", "source cam is offline: broke"),
        ("DEBUG", "source cam is offline: c"),
    ]


def test_end_without_a_single_frame_is_warned_of(connect, caplog):
    caplog.set_level(logging.INFO)
    connection = connect("file:a.avi")
    connection.end("a.avi holds no frame")
    connection.stats.frames = 1
    connection.end("a.avi has been played")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_summary_is_a_copy(connect, clock):
    connection = connect("csi:0")
    connection.heard(clock.now_ns)
    connection.stats.refused.add("no_slot")
    summary = connection.stats.summary()
    connection.stats.refused.add("no_slot")
    assert (summary.state, summary.refused, summary.last_frame_mono_ns) == (
        "online",
        {"no_slot": 1},
        clock.now_ns,
    )
