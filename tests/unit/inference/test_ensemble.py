"""Steps of an ensemble: order, errors, and that nothing is answered twice."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from edgert.errors import (
    CancelledError,
    ClosedError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from edgert.frames.request import InferRequest, InferResponse
from edgert.inference.ensemble import ServedEnsemble
from edgert.models.model_config import Ensemble, EnsembleStep, ModelConfig, TensorConfig
from tests.fakes.waiting import Answered, answer, ask


def step(model, inputs, outputs):
    return EnsembleStep(model=model, inputs=inputs, outputs=outputs)


def tensor(name, *, optional=False):
    return TensorConfig(name=name, dtype="float32", dims=(2,), optional=optional)


class Steps:
    """Models that answer at once, or when told to."""

    def __init__(self):
        self.models = {
            "double": lambda x: {"y": x["x"] * 2},
            "add": lambda x: {"y": x["a"] + x["b"]},
            "fail": lambda x: UnavailableError("no room"),
            "mute": lambda x: {},
        }
        self.held = None
        self.asked = []

    def infer(self, request):
        if self.held is not None:
            self.held.append(request)
        else:
            self.give(request)

    def give(self, request):
        self.asked.append(request)
        made = self.models[request.model](request.inputs)
        error = made if isinstance(made, Exception) else None
        request.responder.respond(InferResponse(request.model, 1, outputs={} if error else made, error=error))


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def opened(steps):
    made = []

    def open_with(*parts, outputs=("OUT",), optional=()):
        config = ModelConfig(
            max_batch_size=4,
            inputs=(tensor("IN"), *(tensor(name, optional=True) for name in optional)),
            outputs=tuple(map(tensor, outputs)),
            ensemble=Ensemble(parts),
        )
        made.append(ServedEnsemble("e", 1, config, steps.infer))
        return made[-1]

    yield open_with
    for ensemble in made:
        ensemble.close()


IN = np.array([[1, 2]], np.float32)
DIAMOND = (
    step("add", {"a": "left", "b": "right"}, {"y": "OUT"}),
    step("double", {"x": "IN"}, {"y": "left"}),
    step("double", {"x": "left"}, {"y": "right"}),
)


def test_steps_run_as_soon_as_their_inputs_are_there_in_any_order_of_writing(opened):
    ensemble = opened(*DIAMOND)
    np.testing.assert_array_equal(answer(ensemble.infer, "e", {"IN": IN})["OUT"], IN * 6)
    statistics = ensemble.statistics()
    assert (statistics.inference_count, statistics.inference_stats.success.count) == (1, 1)
    assert ensemble.is_idle


def test_independent_steps_are_under_way_together(opened, steps):
    ensemble = opened(
        step("double", {"x": "IN"}, {"y": "left"}),
        step("double", {"x": "IN"}, {"y": "right"}),
        step("add", {"a": "left", "b": "right"}, {"y": "OUT"}),
    )
    steps.held = held = []
    asked = ask(ensemble.infer, "e", {"IN": IN})
    assert [request.model for request in held] == ["double", "double"]
    steps.held = None
    for request in held:
        steps.give(request)
    np.testing.assert_array_equal(asked.final().outputs["OUT"], IN * 4)


def test_a_failing_step_ends_the_request_with_its_kind_of_error_and_no_other_step_begins(opened, steps):
    ensemble = opened(step("fail", {"x": "IN"}, {"y": "mid"}), step("double", {"x": "mid"}, {"y": "OUT"}))
    response = ask(ensemble.infer, "e", {"IN": IN}).final()
    assert isinstance(response.error, UnavailableError)
    assert str(response.error) == "in ensemble 'e', no room"
    assert [request.model for request in steps.asked] == ["fail"]
    assert ensemble.statistics().inference_stats.fail.count == 1


def test_a_step_that_is_refused_ends_the_request(opened, steps):
    def refuse(request):
        raise RequestError("unknown")

    steps.infer = refuse
    ensemble = opened(*DIAMOND)
    assert "in ensemble 'e', unknown" in str(ask(ensemble.infer, "e", {"IN": IN}).final().error)
    assert ensemble.is_idle


def test_a_tensor_that_no_step_gave_is_told(opened):
    ensemble = opened(step("mute", {"x": "IN"}, {"y": "OUT"}))
    assert "no step gave OUT" in str(ask(ensemble.infer, "e", {"IN": IN}).final().error)


def test_a_cancelled_request_begins_no_further_step(opened, steps):
    ensemble = opened(*DIAMOND)
    steps.held = held = []
    asked = ask(ensemble.infer, "e", {"IN": IN})
    [first] = held
    steps.held = later = []
    outer = first.responder._run._request
    outer.is_cancelled = True
    steps.give(first)
    assert isinstance(asked.final().error, CancelledError)
    assert later == []


def test_outputs_of_a_step_are_copied_as_its_lane_takes_them_back(opened, steps):
    lent = np.array([[5, 5]], np.float32)
    steps.models["double"] = lambda x: {"y": lent}
    ensemble = opened(step("double", {"x": "IN"}, {"y": "mid"}), step("slow", {"x": "mid"}, {"y": "OUT"}))

    def slow(inputs):
        lent[:] = 0
        return {"y": inputs["x"]}

    steps.models["slow"] = slow
    np.testing.assert_array_equal(answer(ensemble.infer, "e", {"IN": IN})["OUT"], [[5, 5]])


def test_only_wanted_outputs_come(opened):
    ensemble = opened(
        step("double", {"x": "IN"}, {"y": "A"}), step("double", {"x": "A"}, {"y": "B"}), outputs=("A", "B")
    )
    assert list(answer(ensemble.infer, "e", {"IN": IN}, outputs=("B",))) == ["B"]


def test_it_takes_nothing_once_it_is_told_to_refuse(opened):
    ensemble = opened(*DIAMOND)
    ensemble.refuse()
    with pytest.raises(ClosedError):
        ask(ensemble.infer, "e", {"IN": IN})


def test_steps_that_answer_at_once_on_many_threads_end_a_request_once(opened, steps):
    ensemble = opened(
        *(step("double", {"x": "IN"}, {"y": f"m{index}"}) for index in range(8)),
        step("add", {"a": "m0", "b": "m7"}, {"y": "OUT"}),
    )
    steps.held = held = []
    asked = ask(ensemble.infer, "e", {"IN": IN})
    steps.held = None
    threads = [threading.Thread(target=steps.give, args=(request,)) for request in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(asked.final().outputs["OUT"], IN * 4)


def test_two_last_steps_that_end_at_the_same_time_answer_once(opened, steps):
    """Both count their step as done before either looks whether the request is over."""
    steps.held = held = []
    ensemble = opened(
        step("double", {"x": "IN"}, {"y": "A"}), step("double", {"x": "IN"}, {"y": "B"}), outputs=("A", "B")
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            held.clear()
            asked = ask(ensemble.infer, "e", {"IN": IN})
            go = threading.Barrier(2)
            threads = [threading.Thread(target=give_at, args=(steps, go, request)) for request in held]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(asked.responses) == 1
    finally:
        sys.setswitchinterval(interval)
    assert ensemble.is_idle


def give_at(steps, go, request):
    go.wait()
    steps.give(request)


def test_a_responder_that_fails_leaves_nothing_under_way(opened):
    class Broken:
        def respond(self, response):
            raise OSError("gone")

    ensemble = opened(*DIAMOND)
    ensemble.infer(InferRequest(model="e", inputs={"IN": IN}, responder=Broken()))
    assert ensemble.is_idle


def test_an_optional_input_that_is_left_out_is_left_out_of_the_steps(opened, steps):
    steps.models["maybe"] = lambda x: {"y": x["x"] + x.get("bias", 0)}
    ensemble = opened(step("maybe", {"x": "IN", "bias": "BIAS"}, {"y": "OUT"}), optional=("BIAS",))
    np.testing.assert_array_equal(answer(ensemble.infer, "e", {"IN": IN})["OUT"], IN)
    np.testing.assert_array_equal(answer(ensemble.infer, "e", {"IN": IN, "BIAS": IN})["OUT"], IN * 2)


def test_a_step_whose_model_is_not_served_is_unavailable_not_unknown(opened, steps):
    def refuse(request):
        raise UnknownModelError("Request for unknown model: 'double' has no available versions")

    steps.infer = refuse
    error = ask(opened(*DIAMOND).infer, "e", {"IN": IN}).final().error
    assert type(error) is UnavailableError
    assert str(error).startswith("in ensemble 'e', Request for unknown model: 'double'")


def test_a_request_that_was_cancelled_before_it_came_is_answered_so(opened, steps):
    answered = Answered()
    request = InferRequest(model="e", inputs={"IN": IN}, responder=answered, is_cancelled=True)
    opened(*DIAMOND).infer(request)
    assert isinstance(answered.final().error, CancelledError)
    assert not steps.asked


def test_a_step_whose_model_is_decoupled_since_its_reload_fails_once_it_has_ended(opened, steps):
    steps.held = []
    ensemble = opened(step("double", {"x": "IN"}, {"y": "mid"}), step("double", {"x": "mid"}, {"y": "OUT"}))
    sent = Answered()
    ensemble.infer(InferRequest(model="e", inputs={"IN": IN}, responder=sent))
    [first] = steps.held
    first.responder.respond(InferResponse("double", 1, outputs={"y": IN}, is_final=False))
    assert (len(steps.held), ensemble.is_idle) == (1, False)
    first.responder.respond(InferResponse("double", 1))
    assert "in ensemble 'e', 'double' is decoupled" in str(sent.final().error)
    assert (len(steps.held), ensemble.is_idle) == (1, True)


def test_a_step_whose_reader_is_just_being_loaded_begins(opened, steps):
    ensemble = opened(step("double", {"x": "IN"}, {"y": "mid"}), step("double", {"x": "mid"}, {"y": "OUT"}))

    def find(model, version):
        raise UnavailableError("it is loading")

    ensemble._find = find
    assert answer(ensemble.infer, "e", {"IN": IN})["OUT"].tolist() == [[4, 8]]
