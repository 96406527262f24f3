from __future__ import annotations

import os
import select
import threading

import msgspec
import numpy as np
import pytest

from edgert.capture import answers
from edgert.capture.answers import Outbox, Requester
from edgert.errors import BusyError, ClosedError
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
    return Requester(outbox, lambda result: f"result {result.seq}".encode(), "door", [b"client", b""])


def is_readable(outbox):
    return bool(select.select([outbox.descriptor], [], [], 0)[0])


def test_messages_come_out_in_order_and_the_descriptor_tells_of_them(outbox):
    assert not is_readable(outbox)
    for message in ([b"1"], [b"2"]):
        assert outbox.put(message)
    assert is_readable(outbox)
    assert outbox.take() == [[b"1"], [b"2"]]
    assert not is_readable(outbox)
    assert outbox.take() == []


def test_closed_outbox_refuses_messages(outbox):
    outbox.close()
    assert not outbox.put([b"1"])


def test_many_threads_may_put(outbox):
    threads = [threading.Thread(target=lambda: [outbox.put([b"x"]) for _ in range(200)]) for _ in range(4)]
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
    [[*envelope, header, payload]] = outbox.take()
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
    [[_, _, header, payload]] = outbox.take()
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


def test_result_that_cannot_be_encoded_can_still_be_refused(outbox):
    def fail(_):
        raise ValueError("no such field")

    requester = Requester(outbox, fail, "door", [])
    with pytest.raises(ValueError, match="no such field"):
        requester.answer(RESULT)
    requester.refuse(BusyError("full"))
    assert len(outbox.take()) == 1


def test_answer_to_a_closed_source_is_no_error(outbox, requester):
    outbox.close()
    requester.answer(RESULT)


def test_eventfd_is_used_where_there_is_one():
    outbox = Outbox()
    assert (outbox.descriptor == outbox._writing) == hasattr(os, "eventfd")
    assert len(answers.ONE) == 8
    outbox.close()
