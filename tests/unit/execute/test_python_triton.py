"""Models written for the Inference Server's python backend run as they are."""

from __future__ import annotations

import json
import sys
import threading

import numpy as np
import pytest

from edgert.errors import ModelError, RequestError, UnavailableError
from edgert.execute import python_backend_utils as pb_utils
from edgert.execute.python_backend_utils import InferenceRequest, Tensor, TritonModelException
from edgert.frames.request import SequenceStep
from edgert.models.model_config import InstanceGroup, TensorConfig
from tests.fakes.python_model import request, rows

HEAD = """
import json
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

"""
# As in the backend's own examples: types from the configuration, a response for each request.
DOUBLE = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.model_config = json.loads(args["model_config"])
        config = pb_utils.get_output_config_by_name(self.model_config, "y")
        self.dtype = pb_utils.triton_string_to_numpy(config["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            if x[0, 0] < 0:
                error = pb_utils.TritonError("below zero", pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(output_tensors=[], error=error))
                continue
            y = pb_utils.Tensor("y", (x * 2).astype(self.dtype))
            responses.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return responses
"""
)
# As in the backend's own example of a decoupled model: execute returns, threads send.
SEND = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        assert pb_utils.using_decoupled_model_transaction_policy(json.loads(args["model_config"]))

    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            sender = request.get_response_sender()
            threading.Thread(target=self.send, args=(sender, x)).start()
        return None

    def send(self, sender, x):
        for _ in range(int(x[0, 0])):
            sender.send(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", x)]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)


def with_execute(body, **more):
    """Return a model whose `execute` has this body; `requests` is what it gets."""
    lines = "\n        ".join(body.strip().splitlines())
    return f"{HEAD}class TritonPythonModel:\n    def execute(self, requests):\n        {lines}\n"


def test_each_request_has_its_own_response(make):
    one, two = make(DOUBLE).ask(request({"x": rows(1, 2)}), request({"x": rows(3)}))
    np.testing.assert_array_equal(one["y"], rows(2, 4))
    np.testing.assert_array_equal(two["y"], rows(6))


def test_a_request_that_fails_leaves_the_others_of_its_batch_alone(make):
    bad, good = make(DOUBLE).ask(request({"x": rows(-1)}), request({"x": rows(3)}))
    assert isinstance(bad, RequestError)
    assert str(bad) == "below zero"
    np.testing.assert_array_equal(good["y"], rows(6))


def test_responses_of_one_batch_may_have_different_shapes(make):
    source = with_execute(
        """
answers = []
for request in requests:
    x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
    answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", np.ones((1, int(x[0, 0])), np.float32))]))
return answers"""
    )
    y = TensorConfig(name="y", dtype="float32", dims=(-1,))
    one, two = make(source, outputs=(y,)).ask(request({"x": rows(1)}), request({"x": rows(4)}))
    assert (one["y"].shape, two["y"].shape) == ((1, 1), (1, 4))


def test_a_batch_of_frames_comes_as_one_request(make):
    runner = make(DOUBLE)
    np.testing.assert_array_equal(runner.run(x=rows(1, 2))["y"], rows(2, 4))
    with pytest.raises(RequestError, match="below zero"):
        runner.run(x=rows(-1))


def test_a_request_tells_who_asks_and_how(make, diary):
    source = with_execute("diary.extend(requests)\nreturn [pb_utils.InferenceResponse()] * len(requests)")
    step = SequenceStep(7, is_start=True)
    asked = request({"x": rows(1)}, id="a", sequence=step, timeout_us=5, priority=2, parameters={"k": 1})
    make(source).ask(asked, request({"x": rows(1)}, outputs=("y",)))
    [first, second] = diary
    assert (first.request_id(), first.correlation_id(), first.timeout(), first.priority()) == ("a", 7, 5, 2)
    assert first.flags() == pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
    assert json.loads(first.parameters()) == {"k": 1}
    assert first.requested_output_names() == second.requested_output_names() == {"y"}
    assert [tensor.name() for tensor in first.inputs()] == ["x"]
    assert not first.is_cancelled()
    asked.request.is_cancelled = True
    assert first.is_cancelled()


def test_outputs_that_a_request_does_not_want_are_left_out(make):
    source = with_execute(
        """
y, z = (pb_utils.Tensor(name, np.ones((1, 2), np.float32)) for name in "yz")
return [pb_utils.InferenceResponse([y, z]) for _ in requests]"""
    )
    y, z = (TensorConfig(name=name, dtype="float32", dims=(2,)) for name in "yz")
    runner = make(source, outputs=(y, z))
    some, every = runner.ask(request({"x": rows(1)}, outputs=("z",)), request({"x": rows(1)}))
    assert (list(some), list(every)) == (["z"], ["y", "z"])


def test_a_model_may_write_to_its_inputs_and_keep_them(make):
    source = (
        HEAD
        + """
class TritonPythonModel:
    kept = []
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            x += 1
            self.kept.append(x)
        last = pb_utils.Tensor("y", self.kept[0])
        return [pb_utils.InferenceResponse([last]) for _ in requests]
"""
    )
    runner, x = make(source), rows(1)
    for _ in range(3):
        [answer] = runner.ask(request({"x": x}))
        np.testing.assert_array_equal(answer["y"], rows(2))
    np.testing.assert_array_equal(x, rows(1))


def test_a_model_may_write_its_outputs_to_the_same_array_again(make):
    source = (
        HEAD
        + """
class TritonPythonModel:
    y = np.zeros((1, 2), np.float32)
    def execute(self, requests):
        self.y += 1
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", self.y)])]
"""
    )
    runner = make(source)
    lane = runner.lane
    buffers = lane.acquire()
    lane.submit(buffers, lambda own: own.take([request({"x": rows(1)})]), None)
    runner.bell.next_from(lane)
    assert lane.acquire() is None  # what was answered is still read: nothing else runs
    assert buffers.answers[0]["y"].tolist() == [[1, 1]]
    lane.release(buffers)


def test_text_comes_and_goes_as_bytes(make):
    source = with_execute(
        """
x = pb_utils.get_input_tensor_by_name(requests[0], "x").as_numpy()
y = np.array([[text.decode().upper() for text in row] for row in x], dtype=np.object_)
return [pb_utils.InferenceResponse([pb_utils.Tensor("y", y)])]"""
    )
    x, y = (TensorConfig(name=name, dtype="object", dims=(2,)) for name in "xy")
    [answer] = make(source, inputs=(x,), outputs=(y,)).ask(request({"x": np.array([[b"a", b"b"]], object)}))
    assert answer["y"].tolist() == [[b"A", b"B"]]


def test_text_is_made_of_any_objects(make):
    body = 'return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array([[5, "ö"]], dtype=object))])]'
    y = TensorConfig(name="y", dtype="object", dims=(2,))
    [answer] = make(with_execute(body), outputs=(y,)).ask(request({"x": rows(1)}))
    assert answer["y"].tolist() == [[b"5", "ö".encode()]]


def test_what_does_not_fit_config_pbtxt_is_passed_on_and_warned_of_once(make, caplog):
    body = 'return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros((7, 3)))])]'
    runner = make(with_execute(body))
    for _ in range(3):
        [answer] = runner.ask(request({"x": rows(1)}))
        assert (answer["y"].dtype, answer["y"].shape) == (np.float64, (7, 3))
    assert caplog.text.count("output 'y' is float64, expected float32; it is passed on as it is") == 1


def test_initialize_gets_what_the_server_gives(make, diary, tmp_path):
    source = (
        HEAD
        + """
class TritonPythonModel:
    def initialize(self, args): diary.append((args, pb_utils.get_model_dir()))
    def execute(self, requests): pass
    def finalize(self): diary.append("finalize")
"""
    )
    groups = (InstanceGroup(count=1, kind="KIND_GPU", gpus=(2,)),)
    runner = make(source, parameters={"key": "value"}, instance_groups=groups)
    runner.lane.close()
    (args, folder), last = diary
    assert last == "finalize"
    assert folder == str(tmp_path / "m" / "1")
    config = json.loads(args.pop("model_config"))
    assert args == {
        "model_name": "m",
        "model_version": "1",
        "model_repository": str(tmp_path / "m"),
        "model_instance_kind": "GPU",
        "model_instance_device_id": "2",
        "model_instance_name": "m_0_0",
    }
    assert config["max_batch_size"] == 8
    assert config["parameters"] == {"key": {"string_value": "value"}}
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == [2]
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert (config["name"], config["backend"]) == ("m", "python")
    assert config["default_model_filename"] == "model.py"


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("raise pb_utils.TritonModelException('no')", ModelError, r"model\.py:9: TritonModelException: no"),
        ("return None", ModelError, "execute returned NoneType, expected a list of 1"),
        ("return []", ModelError, "execute returned 0, expected a list of 1"),
        ("return [1]", ModelError, "execute answered with int, expected InferenceResponse"),
        ("return [pb_utils.InferenceResponse(error='bad')]", ModelError, "^bad$"),
        (
            "return [pb_utils.InferenceResponse(error=pb_utils.TritonError('x', 4))]",
            UnavailableError,
            "^x$",
        ),
        (
            "y = pb_utils.Tensor('y', np.zeros((1, 2)))\nreturn [pb_utils.InferenceResponse([y])]",
            ModelError,
            "output 'y' is float64, expected float32",
        ),
        ("requests[0].get_response_sender()", ModelError, "does not say decoupled"),
        ("pb_utils.InferenceRequest(model_name='n').exec()", ModelError, "not offered"),
    ],
)
def test_faults_are_errors_with_a_reason(make, body, error, said):
    with pytest.raises(error, match=said):
        make(with_execute(body)).run(x=rows(1))


# Decoupled models


@pytest.mark.parametrize("count", [0, 1, 3])
def test_responses_that_threads_send_are_parts(make, count):
    parts = make(SEND, is_decoupled=True).parts(x=rows(count))
    assert [part["y"].tolist() for part in parts] == [[[count, count]]] * count


def test_parts_are_handed_on_by_the_lane_and_before_the_model_is_done(make, diary):
    source = with_execute(
        """
sender = requests[0].get_response_sender()
y = np.zeros((1, 2), np.float32)
for _ in range(3):
    y += 1
    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
    y += 1
sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)"""
    )
    threads = set()
    parts = []
    runner = make(source, is_decoupled=True)
    runner.parts(lambda part: (threads.add(threading.current_thread().name), parts.append(part)), x=rows(1))
    assert threads == {"lane:m"}
    assert [part["y"][0, 0] for part in parts] == [1, 3, 5]  # as they were when they were sent


def test_an_error_that_is_sent_ends_the_request(make):
    source = with_execute(
        """
error = pb_utils.TritonError("below zero")
final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
requests[0].get_response_sender().send(pb_utils.InferenceResponse(error=error), flags=final)"""
    )
    with pytest.raises(ModelError, match=r"^below zero$"):
        make(source, is_decoupled=True).parts(x=rows(1))


@pytest.mark.parametrize("body", ["pass", "requests[0].get_response_sender()"])
def test_a_sender_that_was_dropped_does_not_hang_the_lane(make, body):
    with pytest.raises(ModelError, match="dropped the response sender"):
        make(with_execute(body), is_decoupled=True).parts(x=rows(1))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sender.send()", "expected a response, or flags"),
        ("sender.send(flags=1)\nsender.send(flags=1)", "the final response was sent before"),
        ("sender.send(flags=1)\nreturn []", "execute returned list, expected None"),
    ],
)
def test_wrong_use_of_a_sender_is_told(make, body, said):
    source = with_execute(f"sender = requests[0].get_response_sender()\n{body}")
    with pytest.raises(ModelError, match=said):
        make(source, is_decoupled=True).parts(x=rows(1))


# The module that models import


def test_the_module_is_the_models_alone(make):
    make(DOUBLE).run(x=rows(1))
    assert "triton_python_backend_utils" not in sys.modules


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("TYPE_BOOL", 1, np.bool_),
        ("TYPE_INT64", 9, np.int64),
        ("TYPE_FP32", 11, np.float32),
        ("TYPE_STRING", 13, np.object_),
    ],
)
def test_types_have_the_servers_numbers(name, number, kind):
    assert pb_utils.triton_string_to_numpy(name) is kind
    assert pb_utils.triton_to_numpy_type(number) is kind
    assert pb_utils.numpy_to_triton_type(kind) == number


def test_bytes_and_str_are_text():
    assert pb_utils.numpy_to_triton_type(np.bytes_) == pb_utils.numpy_to_triton_type(np.str_) == 13


def test_inputs_which_are_not_to_be_written_go_by_dlpack_too():
    given = rows(1, 2)
    given.flags.writeable = False
    for source in (Tensor("x", given).to_dlpack(), Tensor("x", given)):
        np.testing.assert_array_equal(Tensor.from_dlpack("y", source).as_numpy(), rows(1, 2))
    np.testing.assert_array_equal(np.from_dlpack(Tensor("x", given)), rows(1, 2))


def test_tensors_come_and_go_by_dlpack():
    tensor = Tensor.from_dlpack("x", Tensor("x", rows(1, 2)).to_dlpack())
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype(), tensor.is_cpu()) == ("x", [2, 2], 11, True)
    np.testing.assert_array_equal(tensor.as_numpy(), rows(1, 2))


def test_a_tensor_is_made_of_an_array():
    with pytest.raises(TritonModelException, match="found list, expected a NumPy array"):
        Tensor("x", [1])


def test_what_is_asked_for_by_name_and_is_not_there_is_none():
    assert pb_utils.get_input_tensor_by_name(InferenceRequest(), "x") is None
    assert pb_utils.get_output_tensor_by_name(pb_utils.InferenceResponse(), "x") is None
    assert pb_utils.get_input_config_by_name({"input": []}, "x") is None


def test_its_log_is_edgerts(caplog):
    with caplog.at_level("DEBUG"):
        pb_utils.Logger.log_error("one")
        pb_utils.Logger.log_verbose("two")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "one"),
        ("DEBUG", "two"),
    ]
