"""Short batches run on the thread of who asks; slow ones, and those that others could join, do not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.errors import ModelError
from edgert.execute import host_lane
from edgert.frames.request import InferRequest
from tests.fakes.serving import serving
from tests.fakes.waiting import Answered, answer

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")
from edgert.execute.onnx_engine import OnnxBufferSet

VALUES = np.ones((1, 4), np.float32)
ENDLESS_NS = 1 << 60
TEXT = """platform: "onnxruntime_onnx" max_batch_size: 8
input [{ name: "X" data_type: TYPE_FP32 dims: [4] }] output [{ name: "Y" data_type: TYPE_FP32 dims: [4] }]
"""


@pytest.fixture(autouse=True)
def _every_batch_is_short(monkeypatch):
    monkeypatch.setattr(host_lane, "SHORT_NS", ENDLESS_NS)


@pytest.fixture
def make_store(tmp_path, make_onnx):
    def make(rest=""):
        make_onnx(
            [("Add", ["X", "X"], ["Y"])],
            {"X": ("float32", ["n", 4])},
            {"Y": ("float32", ["n", 4])},
            name="double",
        )
        (tmp_path / "double" / "config.pbtxt").write_text(TEXT + rest)
        return tmp_path

    return make


class Noted(Answered):
    """Notes which thread answers, and asks once more from within if it is told to."""

    def __init__(self, infer=None):
        super().__init__()
        self.thread = None
        self.next = None
        self._infer = infer

    def respond(self, response):
        self.thread = threading.current_thread()
        if self._infer is not None:
            self.next = send(self._infer)
        super().respond(response)


def send(infer, responder=None):
    responder = responder or Noted()
    infer(InferRequest(model="double", inputs={"X": VALUES}, responder=responder))
    return responder


def warm(served):
    for _ in range(host_lane.SHORT_BATCHES):
        answer(served.infer, "double", {"X": VALUES})


def is_here(served):
    """Ask once; say whether the answer came on this thread, before `infer` returned."""
    responder = send(served.infer)
    is_done = responder.done.is_set()
    np.testing.assert_array_equal(responder.final().outputs["Y"], VALUES * 2)
    is_own = responder.thread is threading.current_thread()
    assert is_done or not is_own
    return is_own


def test_after_short_batches_a_request_is_answered_before_infer_returns(make_store):
    with serving(make_store()) as served:
        served.load("double")
        warm(served)
        assert all(is_here(served) for _ in range(50))
        statistics = served.statistics("double")
    assert statistics.inference_count == statistics.execution_count == host_lane.SHORT_BATCHES + 50


def test_a_slow_batch_sends_the_next_ones_back_to_the_worker(make_store, monkeypatch):
    with serving(make_store()) as served:
        served.load("double")
        warm(served)
        monkeypatch.setattr(host_lane, "SHORT_NS", 0)
        assert is_here(served)  # nobody knew
        assert not any(is_here(served) for _ in range(5))
        monkeypatch.setattr(host_lane, "SHORT_NS", ENDLESS_NS)
        warm(served)
        assert is_here(served)


@pytest.mark.parametrize(
    "rest", ["dynamic_batching { }", "instance_group [{ count: 2 kind: KIND_CPU }]"], ids=["batches", "two"]
)
def test_what_could_go_together_or_side_by_side_stays_on_the_workers(make_store, rest):
    with serving(make_store(rest)) as served:
        served.load("double")
        warm(served)
        warm(served)
        assert not any(is_here(served) for _ in range(5))


def test_a_short_batch_that_fails_answers_with_the_error_and_the_lane_lives_on(make_store, monkeypatch):
    with serving(make_store()) as served:
        served.load("double")
        warm(served)
        with monkeypatch.context() as patched:
            patched.setattr(OnnxBufferSet, "run", lambda _: (_ for _ in ()).throw(ModelError("broken")))
            responder = send(served.infer)
            assert responder.done.is_set()
            assert str(responder.final().error) == "broken"
        assert is_here(served)


def test_a_request_from_within_an_answer_is_answered_too(make_store):
    with serving(make_store()) as served:
        served.load("double")
        warm(served)
        responder = send(served.infer, Noted(served.infer))
        assert responder.done.is_set()
        np.testing.assert_array_equal(responder.next.final().outputs["Y"], VALUES * 2)


def test_many_threads_that_ask_at_once_are_all_answered(make_store):
    found = []

    def many(served):
        found.extend(answer(served.infer, "double", {"X": VALUES})["Y"][0, 0] for _ in range(200))

    with serving(make_store()) as served:
        served.load("double")
        threads = [threading.Thread(target=many, args=[served]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [2] * 800
