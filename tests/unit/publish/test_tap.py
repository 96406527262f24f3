"""Sampled frames for ZeroMQ subscribers."""

from __future__ import annotations

import json
import socket

import msgspec
import numpy as np
import pytest
import zmq

from edgert.errors import ConfigError
from edgert.frames.frame import Frame
from edgert.publish.options import TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.tap import ZmqTap
from edgert.stats import CopyCounts

TIMEOUT_MS = 10_000


class FakeSlot:
    """What a frame asks of its slot."""

    def __init__(self, image_hwc):
        self.image_hwc = image_hwc

    def view(self, shape):
        assert shape == self.image_hwc.shape
        return self.image_hwc


def make_frame(seq=0, height=4, width=6):
    image_hwc = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    return Frame("porch", seq, "bgr8", height, width, 2_000, 1_000, FakeSlot(image_hwc))


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/tap"


@pytest.fixture
def make_tap(endpoint):
    taps = []

    def make(copies=None, **options):
        values = {"endpoint": f"pub+bind:{endpoint}", **options}
        taps.append(ZmqTap("tap", TapOptions(**values), ResultEncoder("n", "b"), copies))
        return taps[-1]

    yield make
    for tap in taps:
        tap.close(5.0)


@pytest.fixture
def subscriber(endpoint):
    """An XSUB-side that knows when the publisher has its subscription: it is asked for by the test."""
    context = zmq.Context()
    receiver = context.socket(zmq.SUB)
    receiver.setsockopt(zmq.SUBSCRIBE, b"")
    receiver.rcvtimeo = TIMEOUT_MS
    yield receiver
    receiver.close(linger=0)
    context.term()


def receive_first(tap, subscriber, frame, result):
    """Offer until the subscription has reached the publisher: ZeroMQ drops what comes before."""
    poller = zmq.Poller()
    poller.register(subscriber, zmq.POLLIN)
    for _ in range(200):
        tap.offer(frame, result)
        if poller.poll(50):
            return subscriber.recv_multipart()
    raise AssertionError("nothing arrived")


def test_a_frame_arrives_with_its_result(make_tap, subscriber, endpoint, make_result):
    copies = CopyCounts()
    tap = make_tap(copies)
    tap.open()
    subscriber.connect(endpoint)
    frame = make_frame(seq=7)
    pixels = frame.image().tobytes()
    source, header, payload = receive_first(tap, subscriber, frame, make_result(7, width=6, height=4))
    assert (source, payload) == (b"porch", pixels)
    decoded = msgspec.msgpack.decode(header)
    published = json.loads(decoded.pop("result"))
    assert decoded == {
        "v": 1,
        "source": "porch",
        "seq": 7,
        "captured_utc_ns": 1_000,
        "format": "bgr8",
        "height": 4,
        "width": 6,
        "model": "detector",
    }
    assert (published["seq"], published["node"]) == (7, "n")
    tap.close(5.0)
    assert copies.bytes["host_to_host"] == copies.copies["host_to_host"] * len(pixels)
    assert tap.statistics().sent == copies.copies["host_to_host"] / 2


def test_pixels_are_copied_before_offer_returns(make_tap, subscriber, endpoint, make_result):
    tap = make_tap(queue=100)
    tap.open()
    subscriber.connect(endpoint)
    receive_first(tap, subscriber, make_frame(), make_result())
    frame = make_frame(seq=1)
    expected = frame.image().tobytes()
    tap.offer(frame, make_result(1))
    frame.image()[:] = 0
    while True:
        _, header, payload = subscriber.recv_multipart()
        if msgspec.msgpack.decode(header)["seq"] == 1:
            break
    assert payload == expected


def test_wants_a_frame_of_each_source_at_the_rate(make_tap):
    tap = make_tap(frames_per_s=2.0)
    half_s = 500_000_000
    assert [tap.wants("a", now) for now in (10, 11, half_s, half_s + 10, half_s + 11)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert tap.wants("b", 11)


def test_a_frame_that_is_given_back_makes_the_next_one_wanted(make_tap):
    tap = make_tap(frames_per_s=1.0)
    assert tap.wants("a", 10)
    assert tap.wants("b", 10)
    tap.give_back("a")
    assert [tap.wants("a", 11), tap.wants("b", 11)] == [True, False]
    assert not tap.wants("a", 12)  # the turn is counted anew


def test_under_overload_a_tap_that_is_given_back_what_was_dropped_does_not_starve(make_tap):
    tap = make_tap(frames_per_s=1.0)
    frame_ns = 33_000_000
    taken = [seq for seq in range(90) if tap.wants("a", seq * frame_ns) and not _dropped(tap, seq)]
    assert taken == [1, 33, 65]


def _dropped(tap, seq):
    """Say whether frame `seq` is superseded, as every other is, and give it back then."""
    if seq % 2:
        return False
    tap.give_back("a")
    return True


def test_giving_back_what_was_never_taken_does_nothing(make_tap):
    tap = make_tap()
    tap.give_back("a")
    assert tap.wants("a", 0)


def test_a_rate_of_0_is_every_frame(make_tap):
    tap = make_tap(frames_per_s=0)
    assert all(tap.wants("a", now) for now in (1, 1, 2))


def test_frames_for_a_tap_that_is_behind_are_dropped_oldest_first(make_tap, make_result):
    tap = make_tap(queue=2)
    for seq in range(5):
        tap.offer(make_frame(seq), make_result(seq))  # not open: nothing is taken yet
    assert tap.statistics().dropped == {"queue_full": 3}
    tap.open()
    tap.close(5.0)
    tap.offer(make_frame(), make_result())
    statistics = tap.statistics()
    assert (statistics.sent, statistics.dropped) == (2, {"queue_full": 3, "closed": 1})


def test_an_endpoint_that_is_taken_is_named(make_tap):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        tap = make_tap(endpoint=f"pub+bind:{address}")
        with pytest.raises(ConfigError, match=f"endpoint pub\\+bind:{address}: Address already in use"):
            tap.open()


def test_a_tap_may_connect(make_tap, subscriber, endpoint, make_result):
    subscriber.bind(endpoint)
    tap = make_tap(endpoint=f"pub+connect:{endpoint}")
    tap.open()
    assert receive_first(tap, subscriber, make_frame(), make_result())[0] == b"porch"
    assert tap.statistics().is_connected
