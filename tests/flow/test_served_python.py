"""Models in Python behind requests: sequences, many answers to one request, warm-up, faults."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from edgert.errors import ModelError, RequestError
from edgert.frames.request import SequenceStep
from tests.fakes.python_model import write_model
from tests.fakes.serving import serving
from tests.fakes.waiting import answer, ask

SUM = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.sums = {}

        def execute(self, requests):
            responses = []
            for request in requests:
                told = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in
                        ("X", "START", "READY", "ID")}
                if told["READY"][0, 0]:
                    key = int(told["ID"][0, 0])
                    before = 0 if told["START"][0, 0] else self.sums[key]
                    self.sums[key] = before + told["X"][0, 0]
                    out = np.array([[self.sums[key]]], np.float32)
                else:
                    out = np.array([[-1]], np.float32)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", out)]))
            return responses
"""
CONTROLS = """
    control_input [
      { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } },
      { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [0, 1] } },
      { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT32 } }
    ]"""


def config(folder, rest, *, name="m", inputs=("X",), max_batch=4):
    listed = ", ".join(f'{{ name: "{own}" data_type: TYPE_FP32 dims: [1] }}' for own in inputs)
    (folder / name / "config.pbtxt").write_text(
        f"""backend: "python" max_batch_size: {max_batch}
        input [{listed}]
        output [{{ name: "Y" data_type: TYPE_FP32 dims: [1] }}]
        {rest}"""
    )


def sequence_model(folder, batching=f"direct {{ }} {CONTROLS}"):
    write_model(folder, SUM)
    controls = (
        '{ name: "START" data_type: TYPE_INT32 dims: [1] }, '
        '{ name: "READY" data_type: TYPE_INT32 dims: [1] }, '
        '{ name: "ID" data_type: TYPE_INT32 dims: [1] }'
    )
    (folder / "m" / "config.pbtxt").write_text(
        f"""backend: "python" max_batch_size: 4
        input [{{ name: "X" data_type: TYPE_FP32 dims: [1] }}, {controls}]
        output [{{ name: "Y" data_type: TYPE_FP32 dims: [1] }}]
        sequence_batching {{ {batching} }}"""
    )


def x(value):
    return {"X": np.array([[value]], np.float32)}


def step(served, sequence, value, *, start=False, end=False):
    given = SequenceStep(sequence, start, end)
    return float(answer(served.infer, "m", x(value), sequence=given)["Y"][0, 0])


@pytest.mark.parametrize("kind", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
def test_a_model_of_sequences_is_told_where_they_start_and_whose_each_request_is(tmp_path, kind):
    sequence_model(tmp_path, f"{kind} {CONTROLS}")
    with serving(tmp_path) as served:
        served.load("m")
        assert [step(served, 1, 1, start=True), step(served, 2, 10, start=True)] == [1, 10]
        assert [step(served, 2, 20), step(served, 1, 2), step(served, 1, 3, end=True)] == [30, 3, 6]
        assert [step(served, 2, 5), step(served, 2, 0, end=True)] == [35, 35]  # alone in slot 1


@pytest.mark.parametrize("kind", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
def test_controls_and_states_need_not_be_listed_as_tensors(tmp_path, kind):
    write_model(
        tmp_path,
        SUM.replace('"READY", "ID")}', '"READY", "ID", "OLD")}').replace(
            '[pb_utils.Tensor("Y", out)]',
            '[pb_utils.Tensor("Y", out + told["OLD"]), pb_utils.Tensor("NEW", out)]',
        ),
    )
    state = 'state [{ input_name: "OLD" output_name: "NEW" data_type: TYPE_FP32 dims: [1] }]'
    config(tmp_path, f"sequence_batching {{ {kind} {CONTROLS} {state} }}")
    with serving(tmp_path) as served:
        served.load("m")
        assert [step(served, 1, 1, start=True), step(served, 2, 10, start=True)] == [1, 10]
        assert [step(served, 2, 20), step(served, 1, 2, end=True)] == [40, 4]


def test_an_id_that_the_model_cannot_be_told_is_refused_and_hurts_nobody_else(tmp_path):
    sequence_model(tmp_path)
    with serving(tmp_path) as served:
        served.load("m")
        for wrong in ("seven", 2**31, -(2**31) - 1):
            with pytest.raises(RequestError, match=r"correlation ID .* TYPE_INT32"):
                step(served, wrong, 1, start=True)
        assert step(served, 7, 1, start=True, end=True) == 1
        assert served.statistics("m").failures == {"OTHER": 3}


def test_states_that_a_model_does_not_give_back_fail_its_requests_and_nothing_else(tmp_path):
    write_model(tmp_path, "class Model:\n    def execute(self, inputs):\n        return {'Y': inputs['X']}\n")
    config(
        tmp_path,
        """sequence_batching { direct { } state [
          { input_name: "OLD" output_name: "NEW" data_type: TYPE_FP32 dims: [1] }] }""",
        inputs=("X", "OLD"),
    )
    with serving(tmp_path) as served:
        served.load("m")
        for _ in range(3):  # more than the lane has buffer sets
            with pytest.raises(ModelError, match=r"did not return \['NEW'\]"):
                step(served, 1, 1, start=True, end=True)


def test_states_go_to_a_model_and_come_back_as_its_outputs(tmp_path):
    write_model(
        tmp_path,
        """
        class Model:
            def execute(self, inputs):
                return {"Y": inputs["X"] + inputs["OLD"]}
        """,
    )
    config(
        tmp_path,
        """sequence_batching { oldest { max_candidate_sequences: 2 } state [
          { input_name: "OLD" output_name: "Y" data_type: TYPE_FP32 dims: [1] }] }""",
        inputs=("X", "OLD"),
    )
    with serving(tmp_path) as served:
        served.load("m")
        assert [step(served, 1, 1, start=True), step(served, 2, 5, start=True)] == [1, 5]
        assert [step(served, 1, 2), step(served, 2, 5)] == [3, 10]


COUNT = """
    import numpy as np

    class Model:
        def execute(self, inputs):
            for number in range(int(inputs["X"][0, 0])):
                yield {"Y": np.full((1, 1), number, np.float32)}
"""


def test_each_request_of_a_decoupled_model_has_its_own_answers_whatever_the_batching(tmp_path):
    write_model(tmp_path, COUNT)
    config(
        tmp_path,
        """model_transaction_policy { decoupled: true }
        dynamic_batching { max_queue_delay_microseconds: 20000 }""",
    )
    with serving(tmp_path) as served:
        served.load("m")
        asked = [ask(served.infer, "m", x(count)) for count in (0, 1, 3, 2)]
        finals = [one.final() for one in asked]
    assert [final.error for final in finals] == [None] * 4
    assert [len(one.responses) - 1 for one in asked] == [0, 1, 3, 2]


def test_a_decoupled_model_of_sequences_answers_each_request(tmp_path):
    write_model(tmp_path, COUNT)
    config(
        tmp_path,
        "model_transaction_policy { decoupled: true } sequence_batching { oldest "
        "{ max_candidate_sequences: 4 max_queue_delay_microseconds: 20000 } }",
    )
    with serving(tmp_path) as served:
        served.load("m")
        asked = [
            ask(served.infer, "m", x(number), sequence=SequenceStep(number, is_start=True, is_end=True))
            for number in (1, 2, 3)
        ]
        for one in asked:
            assert one.final().error is None
    assert [len(one.responses) - 1 for one in asked] == [1, 2, 3]


WARM = """
    import numpy as np

    class Model:
        def load(self, context):
            self.seen = []

        def execute(self, inputs):
            self.seen.append(inputs["X"].shape[0])
            return {"Y": np.full(inputs["X"].shape, sum(self.seen[:-1]), np.float32)}
"""


def test_every_instance_is_warmed_as_often_as_it_says(tmp_path):
    write_model(tmp_path, WARM)
    config(
        tmp_path,
        """instance_group [{ count: 3 }] dynamic_batching { }
        model_warmup [{ name: "w" batch_size: 2 count: 2 inputs { key: "X"
          value { data_type: TYPE_FP32 dims: [1] zero_data: true } } }]""",
    )
    with serving(tmp_path) as served:
        served.load("m")
        assert served.statistics("m").execution_count == 6
        for _ in range(6):
            assert answer(served.infer, "m", x(0))["Y"][0, 0] >= 4


def test_a_model_of_sequences_is_warmed_with_its_controls(tmp_path):
    sequence_model(tmp_path)
    with (tmp_path / "m" / "config.pbtxt").open("a") as file:
        zeros = " ".join(
            f'inputs {{ key: "{name}" value {{ data_type: {kind} dims: [1] zero_data: true }} }}'
            for name, kind in {"X": "TYPE_FP32", "START": "TYPE_INT32", "READY": "TYPE_INT32"}.items()
        )
        file.write(
            f'model_warmup [{{ name: "w" batch_size: 1 {zeros} inputs {{ key: "ID" value '
            "{ data_type: TYPE_INT32 dims: [1] zero_data: true } } }]"
        )
    with serving(tmp_path) as served:
        served.load("m")
        assert step(served, 1, 4, start=True) == 4


def test_a_warmup_that_fails_says_which_and_leaves_nothing_open(tmp_path):
    write_model(tmp_path, "class Model:\n    def execute(self, inputs):\n        raise ValueError('cold')\n")
    config(
        tmp_path,
        'model_warmup [{ name: "w" batch_size: 1 inputs { key: "X" '
        "value { data_type: TYPE_FP32 dims: [1] zero_data: true } } }]",
    )
    with serving(tmp_path) as served, pytest.raises(ModelError, match=r"model_warmup 'w': .*cold"):
        served.load("m")


def test_a_fault_in_a_batch_is_an_error_of_its_requests_only(tmp_path):
    write_model(
        tmp_path,
        """
        class Model:
            def execute(self, inputs):
                if inputs["X"][0, 0] < 0:
                    raise SystemExit("negative")
                return {"Y": inputs["X"]}
        """,
    )
    config(tmp_path, "")
    with serving(tmp_path) as served:
        served.load("m")
        with pytest.raises(ModelError, match="negative"):
            answer(served.infer, "m", x(-1))
        assert answer(served.infer, "m", x(3))["Y"][0, 0] == 3
        assert served.statistics("m").failures == {"BACKEND": 1}


def test_a_model_that_does_not_return_is_left_behind_when_it_is_unloaded(tmp_path):
    write_model(
        tmp_path,
        """
        import edgert_test_gate

        class Model:
            def execute(self, inputs):
                edgert_test_gate.GO.wait(10)
                return {"Y": inputs["X"]}
        """,
    )
    config(tmp_path, "")
    gate = type(threading)("edgert_test_gate")
    gate.GO = threading.Event()
    sys.modules["edgert_test_gate"] = gate
    try:
        with serving(tmp_path) as served:
            served.load("m")
            asked = ask(served.infer, "m", x(1))
            waits = ask(served.infer, "m", x(2))
            threading.Timer(0.3, gate.GO.set).start()
            served.repository.close(0.05)
            assert "was unloaded" in str(waits.final().error)
            assert asked.final().error is None
            served.repository.close(5.0)
    finally:
        del sys.modules["edgert_test_gate"]
