"""A core that answers before `infer` returns, on the fronts' own thread."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from edgert.errors import ModelError
from edgert.frames.request import InferResponse
from tests.fakes.http_front import HttpSite, binary_request, request

ARRAY = np.zeros((1, 16), np.float32)


@pytest.fixture
def site(monkeypatch):
    with HttpSite() as site:
        monkeypatch.setattr(site.core, "infer", Here())
        yield site


class Here:
    """An `infer` that echoes. It notes the threads, and how deep in calls it was."""

    def __init__(self):
        self.threads = set()
        self.depths = set()
        self.error = None

    def __call__(self, request):
        self.threads.add(threading.current_thread().name)
        self.depths.add(_depth())
        outputs = {} if self.error else {"OUTPUT0": request.inputs["INPUT0"]}
        request.responder.respond(
            InferResponse(request.model, 1, request.id, outputs=outputs, error=self.error)
        )


def _depth():
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def test_answers_come_in_order_whoever_gave_them(site):
    arrays = [ARRAY + index for index in range(60)]
    pieces = [binary_request("identity", array) for array in arrays]
    pieces[20] = binary_request("nobody", arrays[20])
    with site.client() as client:
        client.send(b"".join([*pieces[:40], request("GET", "/v2/health/live"), *pieces[40:]]))
        answers = [client.answer() for _ in range(61)]
    assert answers.pop(40).status == 200
    assert answers.pop(20).status == 404
    for answer, array in zip(answers, arrays[:20] + arrays[21:], strict=True):
        assert answer.body.endswith(array.tobytes())
    assert site.core.infer.threads == {"front"}


def test_a_thousand_requests_sent_ahead_need_no_stack(site):
    with site.client() as client:
        client.send(binary_request("identity", ARRAY) * 1000)
        assert {client.answer().status for _ in range(1000)} == {200}
    assert len(site.core.infer.depths) <= 2  # of the first, and of those behind it


def test_an_error_is_an_answer_and_the_connection_goes_on(site):
    with site.client() as client:
        site.core.infer.error = ModelError("broken")
        client.send(binary_request("identity", ARRAY))
        assert client.answer().status == 500
        site.core.infer.error = None
        client.send(binary_request("identity", ARRAY))
        assert client.answer().status == 200
    assert site.gate.under_way == 0


def test_the_same_head_is_let_in_or_refused_each_time(site):
    with site.client() as client:
        for _ in range(3):
            assert client.ask("GET", "/v2/health/live").status == 200
            assert client.ask("GET", "/v2/nothing").status == 404
            assert client.ask("GET", "/v2/nothing").status == 404


def test_the_same_json_with_other_values_has_other_answers(site):
    arrays = [ARRAY + index for index in range(3)]
    with site.client() as client:
        for array in arrays:
            client.send(binary_request("identity", array))
            assert client.answer().body.endswith(array.tobytes())
