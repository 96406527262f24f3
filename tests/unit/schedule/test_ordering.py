from __future__ import annotations

import random
import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.frames.request import InferResponse
from edgert.schedule.ordering import Ordering

TIMEOUT_S = 10.0


def response(name, *, is_final=True, outputs=None):
    return InferResponse("model", 1, str(name), outputs=outputs or {}, is_final=is_final)


class Desk:
    """Requests in their order; `sent` has the ids of what left."""

    def __init__(self):
        self.sent = []
        self.ordering = Ordering()

    def enter(self, count):
        return [self.ordering.enter(self) for _ in range(count)]

    def respond(self, response):
        self.sent.append(response.id)


def test_a_response_in_its_turn_goes_at_once_and_is_not_copied():
    array = np.arange(3)
    seen = []

    class Keeper:
        def respond(self, response):
            seen.append(response.outputs["y"])

    Ordering().enter(Keeper()).respond(response(0, outputs={"y": array}))
    assert seen[0] is array


def test_a_response_that_waits_keeps_its_arrays_though_the_lane_reuses_them():
    array = np.arange(3)
    seen = []

    class Keeper:
        def respond(self, response):
            seen.append(response.outputs.get("y"))

    ordering = Ordering()
    first, second = ordering.enter(Keeper()), ordering.enter(Keeper())
    second.respond(response(1, outputs={"y": array}))
    array[:] = 9
    first.respond(response(0))
    assert seen[1].tolist() == [0, 1, 2]


def test_responses_leave_in_the_order_of_their_requests():
    desk = Desk()
    turns = desk.enter(4)
    for index in (2, 1, 3):
        turns[index].respond(response(index))
    assert desk.sent == []
    turns[0].respond(response(0))
    assert desk.sent == ["0", "1", "2", "3"]
    assert len(desk.ordering) == 0


def test_a_request_without_answer_holds_nobody_up():
    desk = Desk()
    first, second, third = desk.enter(3)
    third.respond(response(2))
    second.leave()
    assert desk.sent == []
    first.leave()
    first.leave()
    assert desk.sent == ["2"]


def test_all_responses_of_a_decoupled_request_go_in_its_turn():
    desk = Desk()
    first, second = desk.enter(2)
    first.respond(response("0a", is_final=False))
    second.respond(response("1a", is_final=False))
    second.respond(response("1b"))
    first.respond(response("0b", is_final=False))
    assert desk.sent == ["0a", "0b"]
    first.leave()
    assert desk.sent == ["0a", "0b", "1a", "1b"]


def test_a_response_to_a_request_that_has_left_goes_nowhere():
    desk = Desk()
    [first] = desk.enter(1)
    first.leave()
    first.respond(response(0))
    assert desk.sent == []


def test_a_responder_may_enter_the_next_request():
    desk = Desk()

    class Chain:
        def respond(self, _):
            desk.enter(1)[0].respond(response("next"))

    desk.ordering.enter(Chain()).respond(response(0))
    assert desk.sent == ["next"]


def test_what_comes_while_another_thread_sends_is_left_to_that_one():
    is_sending, may_go_on = threading.Event(), threading.Event()
    desk = Desk()

    class Slow:
        def respond(self, response):
            is_sending.set()
            assert may_go_on.wait(TIMEOUT_S)
            desk.respond(response)

    [first] = desk.enter(1)
    second = desk.ordering.enter(Slow())
    [third] = desk.enter(1)
    second.respond(response(1))
    sender = threading.Thread(target=first.respond, args=(response(0),))
    sender.start()
    assert is_sending.wait(TIMEOUT_S)
    third.respond(response(2))
    assert desk.sent == ["0"]
    may_go_on.set()
    sender.join(TIMEOUT_S)
    assert desk.sent == ["0", "1", "2"]


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
@settings(deadline=None)
def test_any_order_of_completion_gives_the_order_of_coming(completed, without):
    desk = Desk()
    turns = desk.enter(8)
    for index in completed:
        if index in without:
            turns[index].leave()
        else:
            turns[index].respond(response(index))
    assert desk.sent == [str(index) for index in range(8) if index not in without]
    assert len(desk.ordering) == 0


def test_many_threads_keep_the_order():
    desk = Desk()
    turns = desk.enter(600)
    indices = list(range(600))
    random.Random(1).shuffle(indices)

    def work(mine):
        for index in mine:
            turns[index].respond(response(index))

    threads = [threading.Thread(target=work, args=(indices[part::3],)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert desk.sent == [str(index) for index in range(600)]
