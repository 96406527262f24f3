"""Requests on real lanes: batches, shapes, states, errors, and what happens while models come and go."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.errors import ClosedError, EdgertError, ModelError, RequestError, UnavailableError
from edgert.frames.request import InferRequest, SequenceStep
from tests.fakes.serving import serving
from tests.fakes.waiting import answer, ask

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")

TIMEOUT_S = 10.0


@pytest.fixture
def store(tmp_path, make_onnx):
    """A store with a model that doubles, one with a state, and an ensemble of the first."""
    make_onnx(
        [("Add", ["X", "X"], ["Y"])],
        {"X": ("float32", ["n", 4])},
        {"Y": ("float32", ["n", 4])},
        name="double",
    )
    config(tmp_path, "double", "dynamic_batching { }", "float32", 8)
    make_onnx(
        [("Add", ["X", "OLD"], ["Y"]), ("Identity", ["Y"], ["NEW"])],
        {"X": ("float32", ["n", 1]), "OLD": ("float32", ["n", 1])},
        {"Y": ("float32", ["n", 1]), "NEW": ("float32", ["n", 1])},
        name="sum",
    )
    (tmp_path / "sum" / "config.pbtxt").write_text(
        """platform: "onnxruntime_onnx" max_batch_size: 4
        input [{ name: "X" data_type: TYPE_FP32 dims: [1] }]
        output [{ name: "Y" data_type: TYPE_FP32 dims: [1] }]
        sequence_batching {
          state [{ input_name: "OLD" output_name: "NEW" data_type: TYPE_FP32 dims: [1] }]
        }"""
    )
    (tmp_path / "twice" / "1").mkdir(parents=True)
    (tmp_path / "twice" / "config.pbtxt").write_text(
        """platform: "ensemble" max_batch_size: 8
        input [{ name: "IN" data_type: TYPE_FP32 dims: [4] }]
        output [{ name: "OUT" data_type: TYPE_FP32 dims: [4] }]
        ensemble_scheduling { step [
          { model_name: "double" model_version: -1
            input_map { key: "X" value: "IN" } output_map { key: "Y" value: "m" } },
          { model_name: "double" model_version: -1
            input_map { key: "X" value: "m" } output_map { key: "Y" value: "OUT" } }
        ] }"""
    )
    return tmp_path


def config(folder, name, rest, dtype="float32", max_batch=8):
    kind = {"float32": "TYPE_FP32"}[dtype]
    (folder / name / "config.pbtxt").write_text(
        f"""platform: "onnxruntime_onnx" max_batch_size: {max_batch}
        input [{{ name: "X" data_type: {kind} dims: [4] }}]
        output [{{ name: "Y" data_type: {kind} dims: [4] }}]
        {rest}"""
    )


def rows(*firsts):
    return np.array([[first, 0, 0, 1] for first in firsts], np.float32)


def test_a_request_of_many_rows_gets_as_many_back(store):
    with serving(store) as served:
        served.load("double")
        np.testing.assert_array_equal(
            answer(served.infer, "double", {"X": rows(1, 2, 3)})["Y"], rows(1, 2, 3) * 2
        )
        statistics = served.statistics("double")
    assert (statistics.inference_count, statistics.execution_count) == (3, 1)
    assert [size.batch_size for size in statistics.batch_stats] == [3]
    assert statistics.inference_stats.success.count == 1
    assert statistics.inference_stats.success.ns >= statistics.inference_stats.compute_infer.ns > 0


def test_requests_that_come_together_share_batches_and_each_gets_its_own_rows(store):
    config(store, "double", "dynamic_batching { max_queue_delay_microseconds: 50000 }")
    with serving(store) as served:
        served.load("double")
        asked = [ask(served.infer, "double", {"X": rows(index, -index)}) for index in range(8)]
        for index, one in enumerate(asked):
            np.testing.assert_array_equal(one.final().outputs["Y"], rows(index, -index) * 2)
        statistics = served.statistics("double")
    assert statistics.inference_count == 16
    assert [size.batch_size for size in statistics.batch_stats] == [8]


def test_every_request_is_answered_once_under_many_senders(store):
    with serving(store) as served:
        served.load("double")
        wrong = []

        def send(number):
            for step in range(40):
                values = rows(number * 1000 + step)
                if not np.array_equal(answer(served.infer, "double", {"X": values})["Y"], values * 2):
                    wrong.append((number, step))

        senders = [threading.Thread(target=send, args=(number,)) for number in range(6)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(TIMEOUT_S)
        assert served.statistics("double").inference_stats.success.count == 240
    assert wrong == []


def test_each_tensor_is_copied_once_into_the_lane(store):
    with serving(store) as served:
        served.load("double")
        before = served.copies.copies["host_to_host"], served.copies.bytes["host_to_host"]
        answer(served.infer, "double", {"X": rows(1, 2)})
        after = served.copies.copies["host_to_host"], served.copies.bytes["host_to_host"]
    assert (after[0] - before[0], after[1] - before[1]) == (1, 2 * 4 * 4)


def test_what_does_not_fit_is_refused_at_once_and_counted(store):
    with serving(store) as served:
        served.load("double")
        with pytest.raises(RequestError, match="batch-size must be <= 8"):
            ask(served.infer, "double", {"X": rows(*range(9))})
        assert served.statistics("double").failures == {"OTHER": 1}


def test_a_full_queue_refuses(store):
    config(
        store,
        "double",
        "dynamic_batching { max_queue_delay_microseconds: 400000 "
        "default_queue_policy { max_queue_size: 1 } }",
    )
    with serving(store) as served:
        served.load("double")
        first = ask(served.infer, "double", {"X": rows(1)})
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
            ask(served.infer, "double", {"X": rows(2)})
        assert first.final().error is None
        assert served.statistics("double").failures == {"REJECTED": 1}


def test_a_request_that_waits_too_long_is_answered_with_an_error(store):
    config(
        store,
        "double",
        "dynamic_batching { max_queue_delay_microseconds: 10000000 "
        "default_queue_policy { default_timeout_microseconds: 20000 } }",
    )
    with serving(store) as served:
        served.load("double")
        error = ask(served.infer, "double", {"X": rows(1)}).final().error
        assert isinstance(error, UnavailableError)
        assert "timeout" in str(error).lower()


def test_an_ensemble_runs_over_the_lanes_of_its_steps(store):
    with serving(store) as served:
        served.load("double", "twice")
        np.testing.assert_array_equal(
            answer(served.infer, "twice", {"IN": rows(1, 2)})["OUT"], rows(1, 2) * 4
        )
        assert served.statistics("double").execution_count == 2
        assert served.statistics("twice").inference_count == 2


def test_sequences_keep_their_state_apart(store):
    with serving(store) as served:
        served.load("sum")

        def step(sequence, value, *, start=False, end=False):
            inputs = {"X": np.array([[value]], np.float32)}
            given = SequenceStep(sequence, start, end)
            return float(answer(served.infer, "sum", inputs, sequence=given)["Y"][0, 0])

        assert [step(1, 1, start=True), step(7, 10, start=True)] == [1, 10]
        assert [step(1, 2), step(7, 20), step(1, 3, end=True)] == [3, 30, 6]
        assert served.statistics("sum").sequences == 1
        assert step(1, 5, start=True) == 5
        with pytest.raises(RequestError, match="must specify the START flag"):
            step(9, 1)


def test_requests_taken_before_a_reload_are_answered_and_none_fails(store):
    with serving(store) as served:
        served.load("double")
        stop = threading.Event()
        counts = {"ok": 0}
        errors = []

        def send():
            while not stop.is_set():
                try:
                    answer(served.infer, "double", {"X": rows(1)})
                    counts["ok"] += 1
                except ClosedError:
                    continue  # a core asks the version that came in its place
                except EdgertError as error:
                    errors.append(error)
                    return

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(5):
            served.load("double")
        stop.set()
        sender.join(TIMEOUT_S)
    assert errors == []
    assert counts["ok"] > 0


def test_requests_that_wait_when_a_model_is_unloaded_are_still_answered(store):
    config(store, "double", "dynamic_batching { max_queue_delay_microseconds: 10000000 }")
    with serving(store) as served:
        served.load("double")
        waiting = ask(served.infer, "double", {"X": rows(1)})
        served.repository.unload("double")
        np.testing.assert_array_equal(waiting.final().outputs["Y"], rows(2) * [1, 0, 0, 2] / [1, 1, 1, 1])
        assert served.is_gone("double")


def test_warmups_run_before_a_version_is_ready_and_a_wrong_one_says_so(store):
    config(
        store,
        "double",
        'model_warmup [{ name: "w" batch_size: 2 count: 3 inputs { key: "X" '
        "value { data_type: TYPE_FP32 dims: [4] random_data: true } } }]",
    )
    with serving(store) as served:
        served.load("double")
        statistics = served.statistics("double")
        assert (statistics.inference_count, statistics.execution_count) == (6, 3)
        assert statistics.inference_stats.success.count == 6  # as the Inference Server counts
    config(
        store,
        "double",
        'model_warmup [{ name: "w" batch_size: 2 inputs { key: "X" '
        'value { data_type: TYPE_FP32 dims: [4] input_data_file: "gone.bin" } } }]',
    )
    with serving(store) as served, pytest.raises(ModelError, match="model_warmup 'w'"):
        served.load("double")


def test_a_model_without_a_batch_axis_keeps_to_its_queue_policy_too(store):
    folder = store / "double"
    (folder / "config.pbtxt").write_text(
        """platform: "onnxruntime_onnx" max_batch_size: 0
        input [{ name: "X" data_type: TYPE_FP32 dims: [-1, 4] }]
        output [{ name: "Y" data_type: TYPE_FP32 dims: [-1, 4] }]
        dynamic_batching { default_queue_policy { max_queue_size: 1 } }"""
    )
    with serving(store) as served:
        served.load("double")
        feed = served.repository.get("double").feed
        feed._queue.is_awaited = False  # as if every lane were busy: nobody looks
        first = ask(served.infer, "double", {"X": rows(1, 2)})
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
            ask(served.infer, "double", {"X": rows(1)})
        served.repository.get("double")._lanes.look()
        np.testing.assert_array_equal(first.final().outputs["Y"], rows(1, 2) * 2)


def test_a_responder_may_send_the_next_request_from_where_it_is_answered(store):
    class Again:
        """Sends a request from within each answer, as ensembles do."""

        def __init__(self, infer, left):
            self.infer, self.left, self.done = infer, left, threading.Event()

        def respond(self, response):
            self.left -= 1
            if self.left:
                self.infer(InferRequest(model="double", inputs={"X": rows(1)}, responder=self))
            else:
                self.done.set()

    with serving(store) as served:
        served.load("double")
        chains = [Again(served.infer, 200) for _ in range(4)]
        for chain in chains:
            served.infer(InferRequest(model="double", inputs={"X": rows(1)}, responder=chain))
        assert all(chain.done.wait(TIMEOUT_S) for chain in chains)
        assert served.statistics("double").inference_stats.success.count == 800


def test_a_sequence_that_waits_for_a_seat_does_not_look_like_a_lane_that_hangs(store):
    text = (store / "sum" / "config.pbtxt").read_text().replace("max_batch_size: 4", "max_batch_size: 1")
    (store / "sum" / "config.pbtxt").write_text(
        text.replace("sequence_batching {", "sequence_batching { max_sequence_idle_microseconds: 60000000")
    )
    with serving(store) as served:
        served.load("sum")
        model = served.repository.get("sum")
        inputs = {"X": np.ones((1, 1), np.float32)}
        answer(served.infer, "sum", inputs, sequence=SequenceStep(1, is_start=True))
        waits = ask(served.infer, "sum", inputs, sequence=SequenceStep(2, is_start=True, is_end=True))
        assert model.statistics().pending == 1
        assert all(pulse.is_idle for pulse in model.pulses(30.0))
        answer(served.infer, "sum", inputs, sequence=SequenceStep(1, is_end=True))
        assert waits.final().error is None


def test_answers_of_sequences_can_keep_the_order_of_their_requests(store):
    text = (store / "sum" / "config.pbtxt").read_text()
    (store / "sum" / "config.pbtxt").write_text(
        text.replace("state [", "oldest { max_candidate_sequences: 4 preserve_ordering: true } state [")
        + "instance_group [{ count: 3 }]"
    )
    order = []

    class Noted:
        def __init__(self, number):
            self.number, self.done = number, threading.Event()

        def respond(self, response):
            order.append(self.number)
            self.done.set()

    with serving(store) as served:
        served.load("sum")
        noted = [Noted(number) for number in range(60)]
        for one in noted:
            served.infer(
                InferRequest(
                    model="sum",
                    inputs={"X": np.ones((1, 1), np.float32)},
                    responder=one,
                    sequence=SequenceStep(one.number + 1, is_start=True, is_end=True),
                )
            )
        assert all(one.done.wait(TIMEOUT_S) for one in noted)
    assert order == list(range(60))
