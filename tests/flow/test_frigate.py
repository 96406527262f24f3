"""Frigate's detector: real sockets, a fake Frigate, real engines on the CPU."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgert.capture.capture import Capture
from edgert.capture.options import SourceOptions
from edgert.capture.zeromq import ZeroMqSource
from edgert.device.host import HostDriver
from edgert.errors import BusyError
from edgert.frames.result import Detections, Result
from edgert.frames.slots import SlotRing
from tests.fakes import store
from tests.fakes.frigate import FakeFrigate
from tests.fakes.line import Line, demand_conservation
from tests.fakes.store import ENDS_ROWS, EXACT, Site

DARK = np.full((1, 8, 8, 3), 40, np.uint8)
BRIGHT = np.full((1, 8, 8, 3), 250, np.uint8)
END2END = EXACT + '[decode]\nkind = "yolo"\nhead = "end2end"\nscore_min = 0.1\n'
FOUND = [[row[5], row[4], row[1] / 8, row[0] / 8, row[3] / 8, row[2] / 8] for row in ENDS_ROWS]
WAIT_S = 10.0


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def serve(site):
    """Return a function that runs a line for Frigate and gives it and a Frigate."""
    opened = []

    def start(model, *, asks_for="", timeout_ms=5000, extra=""):
        address = f"ipc://{site.folder}/frigate"
        text = f'[sources.nvr]\nuri = "frigate+bind:{address}"\nmodels = ["{model}"]\n{extra}'
        line = Line(site.load(text))
        opened.append(line.__enter__())
        frigate = FakeFrigate(address, asks_for or f"{model}.onnx", timeout_ms=timeout_ms)
        opened.append(frigate)
        return line, frigate

    yield start
    for thing in reversed(opened):
        thing.__exit__(None, None, None)


@pytest.fixture
def lone_source(tmp_path):
    """Return an open source whose frames the test answers, its address, and a slot."""
    address = f"ipc://{tmp_path}/nvr"
    options = SourceOptions(uri=f"frigate+bind:{address}", models=["ends"])
    source = ZeroMqSource("nvr", options, encode=lambda _: b"")
    source.open()
    ring = SlotRing(2, 2**20, HostDriver().allocate)
    slot = ring.acquire_write()
    yield source, address, slot
    source.close()
    ring.abandon(slot)
    ring.close(timeout_s=0)


@pytest.fixture
def capture(tmp_path):
    """Return a function that captures for Frigate, and gives the Capture and its address."""
    ring = SlotRing(4, 2**20, HostDriver().allocate)
    captures = []

    def start(deliver):
        address = f"ipc://{tmp_path}/nvr"
        options = SourceOptions(uri=f"frigate+bind:{address}", models=["ends"])
        source = ZeroMqSource("nvr", options, encode=lambda _: b"")
        captures.append(Capture("nvr", source, ring, options, deliver))
        captures[0].start()
        return captures[0], address

    yield start
    captures[0].stop()
    ring.close(timeout_s=0)


def counts(line, lost):
    """Wait until the source has lost something by these names; return what it refused and lost."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        source = line.assembly.report().sources["nvr"]
        if set(lost) <= source.lost.keys():
            return source.refused, source.lost
        assert time.monotonic() < deadline_s, f"{lost} was not counted, only {source.lost}."
        time.sleep(0.01)


def make_result(score):
    output = Detections(
        np.array([[0, 0, 8, 8]], np.float32), np.array([score], np.float32), np.array([3]), ()
    )
    return Result("nvr", 0, "ends", 1, 0, 0, 8, 8, output)


def test_frigate_gets_the_boxes_and_the_sinks_too(site, serve):
    site.add("ends", store.ends_model(), settings=END2END)
    line, frigate = serve("ends")
    assert frigate.prepare()
    rows = frigate.detect(DARK)
    assert (rows.shape, rows.dtype) == ((20, 6), np.float32)
    np.testing.assert_allclose(rows[:3], FOUND)
    assert not rows[3:].any()
    np.testing.assert_array_equal(frigate.detect(np.ascontiguousarray(DARK.transpose(0, 3, 1, 2))), rows)
    assert not frigate.detect(BRIGHT).any()
    assert (frigate.log, frigate.timeouts) == ([], 0)
    report = line.drain()
    demand_conservation(report)
    assert (report.sources["nvr"].refused, report.sources["nvr"].lost) == ({}, {})
    assert [len(result["detections"]) for result in site.results()] == [3, 3, 0]


def test_a_larger_picture_has_the_same_boxes_in_parts_of_it(site, serve):
    site.add("ends", store.ends_model(), settings=END2END)
    _, frigate = serve("ends")
    np.testing.assert_allclose(frigate.detect(np.full((1, 320, 320, 3), 40, np.uint8))[:3], FOUND, atol=1e-6)


def test_frigate_hears_at_once_that_it_means_another_model(site, serve):
    site.add("ends", store.ends_model(), settings=END2END)
    line, frigate = serve("ends", asks_for="yolov9.onnx")
    assert not frigate.prepare()
    assert "Model transfer failed" in frigate.log[0]
    refused, lost = counts(line, {"unknown_model": 1, "refused_model": 1})
    assert (refused, lost) == ({}, {"unknown_model": 1, "refused_model": 1})


def test_a_refused_picture_is_an_error_in_frigates_log_and_counted(site, serve):
    site.add("ends", store.ends_model(), settings=END2END)
    line, frigate = serve("ends")
    assert not frigate.detect(DARK.astype(np.float32)).any()
    assert "edgert: frame_error: A tensor of 'float32' came" in frigate.log[0].replace("\\", "")
    assert frigate.detect(DARK).any()
    refused, lost = counts(line, {"error_answer": 1})
    assert (refused, lost) == ({"frame_error": 1}, {"error_answer": 1})


def test_a_model_that_fails_is_an_error_in_frigates_log_and_counted(site, serve):
    site.add("fails", store.failing_model(), settings=EXACT)
    line, frigate = serve("fails")
    assert not frigate.detect(BRIGHT).any()
    assert "edgert: model_error" in frigate.log[0]
    refused, lost = counts(line, {"error_answer": 1})
    assert (refused, lost) == ({}, {"error_answer": 1})


def test_a_model_without_boxes_is_an_error_in_frigates_log_and_counted(site, serve):
    site.add("mean", store.mean_model(), settings=EXACT)
    line, frigate = serve("mean")
    assert not frigate.detect(DARK).any()
    assert "Frigate takes boxes; model mean gives tensors" in frigate.log[0]
    refused, lost = counts(line, {"unencoded_answer": 1})
    assert (refused, lost) == ({}, {"unencoded_answer": 1})


def test_what_is_not_frigates_is_answered_as_an_error(site, serve):
    site.add("ends", store.ends_model(), settings=END2END)
    line, frigate = serve("ends")
    for parts in ([b""], [b"\x00"], [b"{}"], [b"{}", b""], [b"{}", b"", b""], [b'{"shape": "x"}', b"1"]):
        [header, payload] = frigate.send_raw(*parts)
        assert b"frame_error" in header
        assert payload == b""
    refused, lost = counts(line, {"error_answer": 6})
    assert (refused, lost) == ({"frame_error": 6}, {"error_answer": 6})


def test_an_answer_that_comes_too_late_is_counted_and_never_taken_for_the_next(lone_source):
    source, address, slot = lone_source
    deadline_s = time.monotonic() + WAIT_S
    with FakeFrigate(address, timeout_ms=50) as frigate:
        while not source.take_counts().get("unsent_answer"):  # libzmq may not know yet that it is gone
            assert time.monotonic() < deadline_s, "No late answer was counted."
            assert not frigate.detect(DARK).any()  # nobody reads: it gives up, and opens another socket
            source.read(slot, WAIT_S).reply.answer(make_result(0.25))
            source.tend(0.01)
        assert frigate.timeouts
        frigate.send(BRIGHT)
        source.read(slot, WAIT_S).reply.answer(make_result(0.5))
        source.tend(0.01)
        assert frigate.receive()[0, 1] == 0.5


def test_detectors_that_ask_at_once_get_each_its_own_answer(capture):
    asked = {}

    def deliver(frame):
        asked[int(frame.image()[0, 0, 0])] = frame.reply
        frame.slot.commit(0)
        if len(asked) == 2:
            for level in sorted(asked, reverse=True):  # the later one first
                asked[level].answer(make_result(level / 256))

    _, address = capture(deliver)
    with FakeFrigate(address, timeout_ms=5000) as first, FakeFrigate(address, timeout_ms=5000) as second:
        first.send(np.full((1, 8, 8, 3), 64, np.uint8))
        second.send(np.full((1, 8, 8, 3), 128, np.uint8))
        assert [first.receive()[0, 1], second.receive()[0, 1]] == [0.25, 0.5]


def test_frigate_is_told_while_no_frames_are_taken(capture):
    def deliver(frame):
        raise BusyError("The pipeline drains.")

    capture, address = capture(deliver)
    with FakeFrigate(address, timeout_ms=5000) as frigate:
        assert not frigate.detect(DARK).any()
        assert "edgert: busy_error: The pipeline drains." in frigate.log[0]
    capture.stop()
    assert capture.stats.refused.snapshot() == {"busy_error": 1}
    assert capture.stats.lost.snapshot() == {"error_answer": 1}
