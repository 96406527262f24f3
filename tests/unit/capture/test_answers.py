from __future__ import annotations

import os
import select
import threading

import msgspec
import numpy as np
import pytest

from edgert.capture import answers
from edgert.capture.answers import Answer, AnswerHeader, Outbox, Requester
from edgert.errors import BusyError, ClosedError, ModelError
from edgert.frames.result import Classes, Result

RESULT = Result("door", 5, "cats", 1, 10, 11, 640, 480, Classes(np.zeros(0), np.zeros(0, int), ()))


@pytest.fixture(params=["eventfd", "pipe"])
def outbox(request, monkeypatch):
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd")
    outbox = Outbox()
    yield outbox
    if outbox._is_open:
        outbox.close()


@pytest.fixture
def requester(outbox):
    return Requester(outbox, "door", [b"client", b""])


def encode(result):
    return f"result {result.seq}".encode()


def make_answer(request_id):
    return Answer([], AnswerHeader(1, request_id, "ok", "", "door", 0, "cats"), True)


def is_readable(outbox):
    return bool(select.select([outbox.descriptor], [], [], 0)[0])


def test_answers_come_out_in_order_and_the_descriptor_tells_of_them(outbox):
    assert not is_readable(outbox)
    answers = [make_answer(1), make_answer(2)]
    for answer in answers:
        assert outbox.put(answer)
    assert is_readable(outbox)
    assert outbox.take() == answers
    assert not is_readable(outbox)
    assert outbox.take() == []


def test_closed_outbox_refuses_answers_and_gives_back_those_that_wait(outbox):
    waiting = make_answer(1)
    outbox.put(waiting)
    assert outbox.close() == [waiting]
    assert not outbox.put(make_answer(2))


def test_many_threads_may_put(outbox):
    threads = [
        threading.Thread(target=lambda: [outbox.put(make_answer(0)) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    taken = 0
    while taken < 800:
        assert select.select([outbox.descriptor], [], [], 10)[0]
        taken += len(outbox.take())
    for thread in threads:
        thread.join()
    assert not is_readable(outbox)


@pytest.mark.parametrize(
    ("is_json", "decode"), [(True, msgspec.json.decode), (False, msgspec.msgpack.decode)]
)
def test_answer_speaks_as_the_request_did(outbox, requester, is_json, decode):
    requester.identify("r7", "cats", is_json=is_json)
    requester.answer(RESULT)
    [answer] = outbox.take()
    *envelope, header, payload = answer.message(encode)
    assert (envelope, payload) == ([b"client", b""], b"result 5")
    assert decode(header) == {
        "v": 1,
        "id": "r7",
        "status": "ok",
        "message": "",
        "source": "door",
        "seq": 5,
        "model": "cats",
    }


def test_refusal_names_the_error(outbox, requester):
    requester.identify(3, "dogs", is_json=True)
    requester.refuse(BusyError("full"))
    [answer] = outbox.take()
    _, _, header, payload = answer.message(encode)
    said = msgspec.json.decode(header)
    assert (said["id"], said["status"], said["message"], payload) == (3, "busy_error", "full", b"")
    assert (said["source"], said["seq"], said["model"]) == ("door", None, "dogs")


def test_request_is_answered_once(outbox, requester):
    requester.answer(RESULT)
    with pytest.raises(ClosedError, match="answered before"):
        requester.answer(RESULT)
    with pytest.raises(ClosedError, match="answered before"):
        requester.refuse(BusyError("full"))
    assert len(outbox.take()) == 1


def test_result_is_encoded_only_when_it_is_sent(outbox, requester):
    encoded = []
    requester.answer(RESULT)
    [answer] = outbox.take()
    assert encoded == []
    assert answer.message(lambda result: encoded.append(result) or b"payload")[-1] == b"payload"
    assert encoded == [RESULT]


@pytest.mark.parametrize(
    "cause", [ValueError("no such field"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x")]
)
def test_result_that_cannot_be_encoded_becomes_a_refusal(outbox, requester, cause):
    def fail(_):
        raise cause

    requester.identify("r7", "cats", is_json=True)
    requester.answer(RESULT)
    [answer] = outbox.take()
    with pytest.raises(ModelError, match="A result of model cats cannot be encoded: ") as failure:
        answer.message(fail)
    assert failure.value.__cause__ is cause
    *envelope, header, payload = answer.refusal(failure.value).message(fail)
    said = msgspec.json.decode(header)
    assert (envelope, payload) == ([b"client", b""], b"")
    assert (said["id"], said["status"], said["message"]) == ("r7", "model_error", str(failure.value))


def test_answer_to_a_closed_source_is_no_error(outbox, requester):
    outbox.close()
    requester.answer(RESULT)


def test_eventfd_is_used_where_there_is_one():
    outbox = Outbox()
    assert (outbox.descriptor == outbox._writing) == hasattr(os, "eventfd")
    assert len(answers.ONE) == 8
    outbox.close()
