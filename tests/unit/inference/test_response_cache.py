"""The response cache: what it keeps, what it must not, and what it counts."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.errors import ModelError
from edgert.frames.request import InferRequest, InferResponse, SequenceStep
from edgert.inference.response_cache import ENTRY_BYTES, ResponseCache

ROOMY = 1 << 20


class Unasked:
    def respond(self, response):
        raise AssertionError("the cache answers nobody")


def ask(x=1.0, model="m", **fields):
    inputs = fields.pop("inputs", None) or {"x": np.full((1, 4), x, np.float32)}
    return InferRequest(model=model, inputs=inputs, responder=Unasked(), **fields)


def answer(y=2.0, size=4, **fields):
    outputs = {"y": np.full((1, size), y, np.float32)}
    return InferResponse("m", 1, **{"outputs": outputs, **fields})


def keep(cache, request, response=None, version=1):
    lookup = cache.look_up(request, version)
    assert lookup.answer is None
    return cache.keep(lookup.key, response or answer())


def found(cache, request, version=1):
    """Return the first value of output y that the cache has; None if it has none."""
    kept = cache.look_up(request, version).answer
    return None if kept is None else kept.outputs["y"].flat[0]


def test_the_same_request_again_is_answered_from_the_cache():
    cache = ResponseCache(ROOMY)
    keep(cache, ask(), answer(5.0, parameters={"k": 1}))
    kept = cache.look_up(ask(id="another"), 1).answer
    assert kept.outputs["y"].tolist() == [[5.0] * 4]
    assert kept.parameters == {"k": 1}


TWO = {"a": np.zeros((1, 2), np.float32), "b": np.ones((1, 2), np.float32)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ask(1.0), ask(1.5)),
        (ask(), ask(model="n")),
        (ask(), ask(outputs=("y",))),
        (ask(outputs=("y", "z")), ask(outputs=("z", "y"))),
        (ask(), ask(parameters={"k": 1})),
        (ask(inputs={"x": np.zeros((1, 4), "f4")}), ask(inputs={"x": np.zeros((1, 4), "i4")})),
        (ask(inputs={"x": np.zeros((1, 4), "f4")}), ask(inputs={"x": np.zeros((4, 1), "f4")})),
        (ask(inputs={"x": np.zeros((1, 4), "f4")}), ask(inputs={"z": np.zeros((1, 4), "f4")})),
        (ask(inputs=TWO), ask(inputs={"a": TWO["b"], "b": TWO["a"]})),
        (
            ask(inputs={"x": np.array([b"ab", b"c"], object)}),
            ask(inputs={"x": np.array([b"a", b"bc"], object)}),
        ),
    ],
)
def test_requests_that_differ_in_what_an_answer_depends_on_are_told_apart(one, other):
    cache = ResponseCache(ROOMY)
    keep(cache, one)
    assert found(cache, other) is None
    assert found(cache, one) == 2.0


def test_versions_are_told_apart():
    cache = ResponseCache(ROOMY)
    keep(cache, ask())
    assert found(cache, ask(), version=2) is None


@pytest.mark.parametrize(
    "inputs",
    [
        {"b": TWO["b"], "a": TWO["a"]},
        {"a": np.zeros((2, 1), np.float32).T, "b": np.ones((4, 2), np.float32)[::4]},
    ],
)
def test_order_of_names_and_of_memory_makes_no_difference(inputs):
    cache = ResponseCache(ROOMY)
    keep(cache, ask(inputs=TWO))
    assert found(cache, ask(inputs=inputs)) == 2.0


@pytest.mark.parametrize("x", [np.zeros((0, 4), np.float32), np.array(3), np.array([b"", b"text"], object)])
def test_empty_tensors_scalars_and_text_have_keys(x):
    cache = ResponseCache(ROOMY)
    keep(cache, ask(inputs={"x": x}))
    assert found(cache, ask(inputs={"x": x.copy()})) == 2.0


def test_it_keeps_copies_that_nobody_can_change():
    cache, response = ResponseCache(ROOMY), answer(2.0)
    keep(cache, ask(), response)
    response.outputs["y"][:] = 9
    y = cache.look_up(ask(), 1).answer.outputs["y"]
    assert y[0, 0] == 2.0
    with pytest.raises(ValueError, match="read-only"):
        y[0, 0] = 1


def test_requests_of_sequences_have_no_place_in_it():
    cache = ResponseCache(ROOMY)
    assert cache.look_up(ask(sequence=SequenceStep(1)), 1) is None
    assert cache.statistics().lookups == 0


@pytest.mark.parametrize(
    "response",
    [answer(error=ModelError("bad"), outputs={}), answer(is_final=False), answer(outputs={})],
    ids=["error", "part of a decoupled answer", "end of a decoupled answer"],
)
def test_errors_and_decoupled_answers_are_not_kept(response):
    cache = ResponseCache(ROOMY)
    keep(cache, ask(), response)
    assert cache.statistics().entries == 0


def test_bytes_are_bounded_and_the_least_recently_asked_for_goes_first():
    room = ENTRY_BYTES + 400
    cache = ResponseCache(2 * room)
    keep(cache, ask(1), answer(1, size=100))
    keep(cache, ask(2), answer(2, size=100))
    assert found(cache, ask(1)) == 1
    keep(cache, ask(3), answer(3, size=100))
    assert [found(cache, ask(x)) for x in (1, 2, 3)] == [1, None, 3]
    statistics = cache.statistics()
    assert (statistics.entries, statistics.evictions, statistics.used_bytes) == (2, 1, 2 * room)


def test_a_large_answer_takes_the_room_of_several_and_one_too_large_of_none():
    cache = ResponseCache(4 * ENTRY_BYTES)
    for x in range(3):
        keep(cache, ask(x))
    keep(cache, ask(9), answer(size=10 * ENTRY_BYTES))
    assert cache.statistics().entries == 3
    keep(cache, ask(8), answer(8, size=ENTRY_BYTES // 2))
    assert (cache.statistics().entries, cache.statistics().evictions) == (1, 3)
    assert found(cache, ask(8)) == 8


def test_text_counts_with_all_its_bytes():
    cache = ResponseCache(ROOMY)
    keep(cache, ask(), answer(outputs={"y": np.array([b"a" * 1000, b"b" * 24], object)}))
    assert cache.statistics().used_bytes == ENTRY_BYTES + 16 + 1024


def test_an_answer_that_is_kept_twice_counts_once():
    cache = ResponseCache(ROOMY)
    first, second = (cache.look_up(ask(), 1) for _ in range(2))
    cache.keep(first.key, answer(1.0))
    cache.keep(second.key, answer(2.0))
    assert cache.statistics().used_bytes == ENTRY_BYTES + 16
    assert found(cache, ask()) == 1.0


def test_a_version_that_is_unloaded_is_forgotten_and_no_other():
    cache = ResponseCache(ROOMY)
    keep(cache, ask(), version=1)
    keep(cache, ask(), version=2)
    keep(cache, ask(model="n"), version=1)
    cache.forget("m", 1)
    assert found(cache, ask(), version=1) is None
    assert found(cache, ask(), version=2) == found(cache, ask(model="n")) == 2.0
    assert (cache.statistics().entries, cache.statistics().evictions) == (2, 0)


def test_what_the_old_load_answers_after_it_was_forgotten_is_not_kept():
    cache = ResponseCache(ROOMY)
    in_flight = cache.look_up(ask(), 1)
    cache.forget("m", 1)
    cache.keep(in_flight.key, answer(1.0))
    assert cache.statistics().entries == 0
    keep(cache, ask(), answer(3.0))
    assert found(cache, ask()) == 3.0


def test_a_version_that_was_never_asked_can_be_forgotten():
    cache = ResponseCache(ROOMY)
    cache.forget("m", 7)
    assert cache.statistics().entries == 0


def test_it_counts_hits_misses_and_times():
    cache = ResponseCache(ROOMY)
    lookup = cache.look_up(ask(), 1)
    kept_ns = cache.keep(lookup.key, answer())
    again = cache.look_up(ask(), 1)
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.lookups) == (1, 1, 2)
    assert statistics.lookup_ns == lookup.took_ns + again.took_ns > 0
    assert statistics.insertion_ns == kept_ns > 0
    assert statistics.max_bytes == ROOMY


def test_without_room_nothing_is_kept():
    cache = ResponseCache(0)
    keep(cache, ask())
    assert cache.statistics().entries == cache.statistics().used_bytes == 0


def test_many_threads_leave_its_counts_whole():
    cache = ResponseCache(8 * (ENTRY_BYTES + 16))
    wrong = []

    def work(seed):
        for turn in range(200):
            x = float((seed * 7 + turn) % 16)
            lookup = cache.look_up(ask(x), 1)
            if lookup.answer is None:
                cache.keep(lookup.key, answer(x))
            elif lookup.answer.outputs["y"][0, 0] != x:
                wrong.append(x)
            if turn % 50 == 49:
                cache.forget("m", 1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = cache.statistics()
    assert not wrong
    assert statistics.lookups == 800
    assert statistics.used_bytes == statistics.entries * (ENTRY_BYTES + 16) <= statistics.max_bytes
