"""The HTTP front over a fake core: what clients of the Inference Server send and get."""

from __future__ import annotations

import gzip
import json
import logging
import struct
import threading
import zlib
from contextlib import ExitStack

import numpy as np
import pytest

from edgert.errors import ModelError, UnsupportedError
from tests.fakes.http_front import HttpSite, binary_request

ROW = list(range(16))
ARRAY = np.arange(32, dtype=np.float32).reshape(2, 16)


@pytest.fixture
def site():
    with HttpSite(pages={"/metrics": lambda: (b"a 1\n", "text/plain; version=0.0.4")}) as site:
        yield site


def tensor(data=ROW, **changes):
    return {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "data": data} | changes


def without(name, **changes):
    return {key: value for key, value in tensor(**changes).items() if key != name}


class TestDescriptions:
    def test_the_server_says_what_it_offers(self, site):
        found = site.ask("GET", "/v2").json()
        assert found["name"] == "edgert"
        assert {"binary_tensor_data", "system_shared_memory", "statistics"} < set(found["extensions"])

    def test_health(self, site):
        assert site.ask("GET", "/v2/health/live").status == 200
        assert site.ask("GET", "/v2/health/ready").status == 200
        site.core.ready = False
        assert site.ask("GET", "/v2/health/live").status == 200
        assert site.ask("GET", "/v2/health/ready").status == 400

    @pytest.mark.parametrize(
        ("model", "status"),
        [("identity", 200), ("identity/versions/3", 200), ("identity/versions/9", 400), ("nope", 400)],
    )
    def test_a_model_is_ready_or_not(self, site, model, status):
        answer = site.ask("GET", f"/v2/models/{model}/ready")
        assert answer.status == status
        assert answer.body == (b"" if status == 200 else b'{"error":"Model version not ready"}')

    def test_metadata(self, site):
        expected = {
            "name": "identity",
            "versions": ["1", "3"],
            "platform": "fake",
            "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 16]}],
            "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 16]}],
        }
        assert site.ask("GET", "/v2/models/identity").json() == expected
        assert site.ask("GET", "/v2/models/identity/versions/1").json() == expected

    def test_metadata_of_an_unknown_model(self, site):
        answer = site.ask("GET", "/v2/models/nope")
        assert (answer.status, answer.error) == (404, "Request for unknown model: 'nope' is not found")

    def test_a_models_name_may_have_escapes(self, site):
        assert site.ask("GET", "/v2/models/a%20b").error == "Request for unknown model: 'a b' is not found"

    def test_the_configuration_is_as_the_inference_server_shows_it(self, site):
        found = site.ask("GET", "/v2/models/identity/versions/1/config").json()
        assert found["max_batch_size"] == 8
        assert found["input"][0]["data_type"] == "TYPE_FP32"
        assert found["input"][0]["dims"] == [16]
        assert found["version_policy"] == {"latest": {"num_versions": 1}}

    def test_statistics(self, site):
        site.infer("identity", {"inputs": [tensor()]})
        site.infer("identity", {"inputs": [tensor()]})
        [found] = site.ask("GET", "/v2/models/identity/stats").json()["model_stats"]
        assert (found["name"], found["version"], found["inference_count"]) == ("identity", "1", 2)
        assert found["inference_stats"]["success"]["count"] == 2
        assert found["batch_stats"][0]["compute_infer"]["count"] == 1
        assert found["memory_usage"] == []
        assert "failures" not in found
        every = site.ask("GET", "/v2/models/stats").json()["model_stats"]
        assert [one["name"] for one in every] == sorted(site.core.models)

    def test_statistics_of_an_unknown_model(self, site):
        answer = site.ask("GET", "/v2/models/nope/stats")
        assert (answer.status, answer.error) == (400, "requested model 'nope' is not available")

    def test_pages_of_other_parts(self, site):
        answer = site.ask("GET", "/metrics")
        assert (answer.body, answer.headers["content-type"]) == (b"a 1\n", "text/plain; version=0.0.4")

    @pytest.mark.parametrize(
        "path", ["/", "/v2/", "/v2/models", "/v2/models/identity/versions/x", "/v2/models//ready", "/v3"]
    )
    def test_unknown_paths(self, site, path):
        assert (site.ask("GET", path).status, site.ask("POST", path, b"x").status) == (404, 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v2"),
            ("DELETE", "/v2/models/identity"),
            ("GET", "/v2/models/identity/infer"),
            ("GET", "/v2/repository/index"),
            ("PUT", "/v2/systemsharedmemory/status"),
        ],
    )
    def test_wrong_methods(self, site, method, path):
        answer = site.ask(method, path)
        assert (answer.status, answer.error) == (405, "Method Not Allowed")

    def test_head_is_get_without_the_body(self, site):
        whole = site.ask("GET", "/v2")
        with site.client() as client:
            head = client.ask("HEAD", "/v2")
            assert (head.status, head.headers) == (200, whole.headers)
            assert client.ask("GET", "/v2").body == whole.body


class TestInference:
    def test_json_in_json_out(self, site):
        answer = site.infer("identity", {"id": "7", "inputs": [tensor()]})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "id": "7",
            "model_name": "identity",
            "model_version": "3",
            "outputs": [tensor([float(value) for value in ROW], name="OUTPUT0")],
        }

    @pytest.mark.parametrize("nesting", [[ROW], [ROW[:8], ROW[8:]], [ROW[:3], [[ROW[3:]]]]])
    def test_lists_in_lists_are_flat(self, site, nesting):
        [output] = site.infer("identity", {"inputs": [tensor(nesting)]}).json()["outputs"]
        assert output["data"] == ROW

    def test_binary_in_binary_out(self, site):
        with site.client() as client:
            client.send(binary_request("identity", ARRAY))
            answer = client.answer()
        length = int(answer.headers["inference-header-content-length"])
        assert answer.headers["content-type"] == "application/octet-stream"
        [output] = json.loads(answer.body[:length])["outputs"]
        assert output["parameters"] == {"binary_data_size": 128}
        np.testing.assert_array_equal(np.frombuffer(answer.body[length:], np.float32), ARRAY.ravel())

    def test_a_binary_input_is_a_view_of_what_was_received(self, site):
        with site.client() as client:
            client.send(binary_request("identity", ARRAY))
            client.answer()
        array = site.core.requests[0].inputs["INPUT0"]
        assert not array.flags.owndata
        assert array.__array_interface__["data"][0] % 16 == 0

    def test_a_version_may_be_asked_for(self, site):
        answer = site.ask(
            "POST", "/v2/models/identity/versions/1/infer", json.dumps({"inputs": [tensor()]}).encode()
        )
        assert answer.json()["model_version"] == "1"
        assert site.core.requests[0].version == 1

    def test_several_inputs_and_one_of_two_outputs(self, site):
        inputs = [tensor(name=name, datatype="INT32") for name in ("INPUT0", "INPUT1")]
        found = site.infer("add", {"inputs": inputs, "outputs": [{"name": "OUTPUT1"}]}).json()
        assert [output["name"] for output in found["outputs"]] == ["OUTPUT1"]
        assert found["outputs"][0]["data"] == [0] * 16

    def test_some_outputs_binary_and_some_not(self, site):
        inputs = [tensor(name=name, datatype="INT32") for name in ("INPUT0", "INPUT1")]
        outputs = [{"name": "OUTPUT0"}, {"name": "OUTPUT1", "parameters": {"binary_data": True}}]
        answer = site.infer("add", {"inputs": inputs, "outputs": outputs})
        length = int(answer.headers["inference-header-content-length"])
        found = json.loads(answer.body[:length])["outputs"]
        assert found[0]["data"] == [2 * value for value in ROW]
        assert found[1]["parameters"] == {"binary_data_size": 64}
        assert answer.body[length:] == bytes(64)

    def test_parameters_reach_the_core(self, site):
        parameters = {
            "priority": 2,
            "timeout": 500,
            "sequence_id": 9,
            "sequence_start": True,
            "own": "x",
            "f": 1.5,
        }
        site.infer("identity", {"inputs": [tensor()], "parameters": parameters})
        [request] = site.core.requests
        assert (request.priority, request.timeout_us) == (2, 500)
        assert (request.sequence.id, request.sequence.is_start, request.sequence.is_end) == (9, True, False)
        assert request.parameters == {"own": "x", "f": 1.5}
        assert request.arrived_mono_ns > 0

    def test_a_sequence_may_have_a_text_for_its_id(self, site):
        site.infer(
            "identity", {"inputs": [tensor()], "parameters": {"sequence_id": "a", "sequence_end": True}}
        )
        assert (site.core.requests[0].sequence.id, site.core.requests[0].sequence.is_end) == ("a", True)

    def test_classification(self, site):
        scores = {"name": "IN", "shape": [2, 4], "datatype": "FP32", "data": [0, 3, 1, 2, 9, 0, 0, 0]}
        outputs = [{"name": "SCORES", "parameters": {"classification": 2}}]
        [output] = site.infer("classify", {"inputs": [scores], "outputs": outputs}).json()["outputs"]
        assert output == {
            "name": "SCORES",
            "datatype": "BYTES",
            "shape": [2, 2],
            "data": ["3.000000:1:dog", "2.000000:3", "9.000000:0:cat", "0.000000:1:dog"],
        }

    @pytest.mark.parametrize(
        ("datatype", "values"),
        [
            ("BOOL", [True, False]),
            ("UINT8", [0, 255]),
            ("UINT16", [0, 65535]),
            ("UINT32", [0, 2**32 - 1]),
            ("UINT64", [0, 2**64 - 1]),
            ("INT8", [-128, 127]),
            ("INT16", [-(2**15), 2**15 - 1]),
            ("INT32", [-(2**31), 2**31 - 1]),
            ("INT64", [-(2**63), 2**63 - 1]),
            ("FP32", [0.5, -1e38]),
            ("FP64", [1e300, 1]),
            ("BYTES", ["", "é"]),
        ],
    )
    def test_each_datatype_to_its_bounds(self, site, datatype, values):
        given = tensor(values, shape=[2], datatype=datatype)
        [output] = site.infer(f"identity_{datatype.lower()}", {"inputs": [given]}).json()["outputs"]
        assert output["datatype"] == datatype
        np.testing.assert_allclose(output["data"], values) if datatype == "FP32" else None
        if datatype != "FP32":
            assert output["data"] == values

    @pytest.mark.parametrize(
        ("datatype", "value"),
        [
            ("BOOL", 1),
            ("UINT8", 256),
            ("UINT8", -1),
            ("UINT64", 2**64),
            ("INT8", -129),
            ("INT32", 2**31),
            ("INT64", 2**63),
            ("INT32", 1.0),
            ("INT32", True),
            ("FP32", 1e40),
            ("FP32", "1"),
            ("FP64", None),
            ("BYTES", 5),
        ],
    )
    def test_numbers_beyond_a_datatype_are_refused(self, site, datatype, value):
        given = tensor([value], shape=[1], datatype=datatype)
        answer = site.infer(f"identity_{datatype.lower()}", {"inputs": [given]})
        assert answer.status == 400
        assert answer.error.startswith("Unable to parse 'data': ")
        assert "INPUT0" in answer.error

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_half_floats_are_binary_only(self, site, datatype):
        answer = site.infer(f"identity_{datatype.lower()}", {"inputs": [tensor(datatype=datatype)]})
        assert (answer.status, "binary data format" in answer.error) == (400, True)
        array = np.array([0x3C00, 0x4000], np.uint16)
        with site.client() as client:
            client.send(binary_request(f"identity_{datatype.lower()}", array, datatype=datatype))
            answer = client.answer()
        length = int(answer.headers["inference-header-content-length"])
        assert json.loads(answer.body[:length])["outputs"][0]["datatype"] == datatype
        assert answer.body[length:] == array.tobytes()

    def test_bf16_is_not_taken_for_uint16(self, site):
        with site.client() as client:
            client.send(binary_request("identity_bf16", np.zeros(2, np.uint16), datatype="UINT16"))
            assert "expects 'BF16'" in client.answer().error

    def test_nan_and_infinity_are_numbers(self, site):
        text = b'{"inputs":[{"name":"INPUT0","shape":[3],"datatype":"FP32","data":[NaN,-Infinity,1]}]}'
        answer = site.ask("POST", "/v2/models/identity_fp32/infer", text)
        assert b'"data":[NaN,-Infinity,1.0]' in answer.body

    def test_texts(self, site):
        data = struct.pack("<I", 2) + b"\xff\x00" + struct.pack("<I", 0)
        request = binary_request("identity_bytes", np.empty(2, object), datatype="BYTES", data=data)
        with site.client() as client:
            client.send(request)
            assert client.answer().body.endswith(data)

    def test_texts_that_are_no_utf_8_are_binary_only(self, site):
        data = struct.pack("<I", 1) + b"\xff"
        head = {"parameters": {}}
        with site.client() as client:
            client.send(
                binary_request("identity_bytes", np.empty(1, object), datatype="BYTES", data=data, head=head)
            )
            answer = client.answer()
        assert (answer.status, "no UTF-8" in answer.error) == (400, True)

    def test_long_texts_are_read_beside_the_others(self, site, monkeypatch):
        threads = []
        begin = site.core.infer
        monkeypatch.setattr(
            site.core, "infer", lambda sent: (threads.append(threading.current_thread().name), begin(sent))
        )
        for count in (10, 50_000):
            data = (struct.pack("<I", 1) + b"a") * count
            with site.client() as client:
                client.send(binary_request("identity_bytes", np.empty(count), datatype="BYTES", data=data))
                assert client.answer().body.endswith(data)
        assert threads[0] == "front"
        assert threads[1].startswith("http_")

    @pytest.mark.parametrize(
        ("count", "data"),
        [(1, b"abc"), (2, b"\x01\0\0\0a"), (1, b"\xff\xff\xff\xff"), (1, b"\0\0\0\0x"), (2**40, b"\0\0\0\0")],
    )
    def test_malformed_texts_are_refused(self, site, count, data):
        head = {
            "inputs": [
                tensor(None, shape=[count], datatype="BYTES", parameters={"binary_data_size": len(data)})
            ]
        }
        del head["inputs"][0]["data"]
        request = binary_request("identity_bytes", np.empty(1), data=data, head=head)
        with site.client() as client:
            client.send(request)
            assert client.answer().status == 400

    def test_a_body_without_json_is_the_only_input(self, site):
        answer = site.ask(
            "POST", "/v2/models/identity/infer", ARRAY[:1].tobytes(), Inference_Header_Content_Length=0
        )
        assert answer.body.endswith(ARRAY[:1].tobytes())
        assert site.core.requests[0].inputs["INPUT0"].shape == (1, 16)

    def test_a_variable_side_of_a_body_without_json_is_derived(self, site):
        site.ask("POST", "/v2/models/identity_int32/infer", bytes(40), Inference_Header_Content_Length=0)
        assert site.core.requests[0].inputs["INPUT0"].shape == (10,)

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_compressed_bodies(self, site, encoding, pack):
        body = pack(json.dumps({"inputs": [tensor()]}).encode())
        answer = site.ask("POST", "/v2/models/identity/infer", body, Content_Encoding=encoding)
        assert answer.json()["outputs"][0]["data"] == ROW

    def test_an_empty_tensor(self, site):
        given = tensor([], shape=[0, 16])
        assert site.infer("identity", {"inputs": [given]}).json()["outputs"][0]["shape"] == [0, 16]

    def test_a_long_json_body_is_read_beside_the_others(self, site):
        values = list(range(100_000))
        given = tensor(values, shape=[100_000], datatype="INT32")
        assert site.infer("identity_int32", {"inputs": [given]}).json()["outputs"][0]["data"] == values


WRONG = {
    "no json": (b"xx", "failed to parse the request JSON buffer: "),
    "deep json": (
        b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000,
        "failed to parse the request JSON buffer: ",
    ),
    "a list": (b"[]", "Unable to parse 'request': attempt to access JSON non-object as object"),
    "a long number": (b'{"inputs":[' + b"9" * 5000 + b"]}", "Unable to parse 'inputs'"),
    "no utf-8": (b'{"inputs":[{"name":"\xff"}]}', "failed to parse the request JSON buffer: "),
    "empty": (b"", "the request has no body"),
    "no inputs": (b"{}", "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    "inputs": ({"inputs": 5}, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
    "id": ({"inputs": [], "id": 5}, "Unable to parse 'id': attempt to access JSON non-string as string"),
    "name": ({"inputs": [without("name")]}, "Unable to parse 'name': attempt to access non-existing"),
    "shape": (
        {"inputs": [tensor(shape=[-1, 16])]},
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "datatype": ({"inputs": [tensor(datatype="FOO")]}, "invalid datatype for input INPUT0"),
    "no data": ({"inputs": [without("data")]}, "Input must set only one of the following fields: "),
    "too little": ({"inputs": [tensor(ROW[1:])]}, "Unable to parse 'data': Shape does not match true shape"),
    "too much": ({"inputs": [tensor([*ROW, 1])]}, "Unable to parse 'data': Shape does not match true shape"),
    "a huge shape": ({"inputs": [tensor(shape=[2**62, 2**62])]}, "Unable to parse 'data': Shape"),
    "an empty huge shape": ({"inputs": [tensor([], shape=[0, 2**62, 2**62])]}, "unexpected shape"),
    "many sides": ({"inputs": [tensor(shape=[1] * 33)]}, "Unable to parse 'shape'"),
    "twice": ({"inputs": [tensor(), tensor()]}, "input 'INPUT0' already exists in request"),
    "deep data": (
        {"inputs": [tensor(json.loads("[" * 40 + "1" + "]" * 40))]},
        "Unable to parse 'data': Shape does not match",
    ),
    "another output": (
        {"inputs": [tensor()], "outputs": [{"name": "X"}]},
        "unexpected inference output 'X' for model 'identity'",
    ),
    "classification": (
        {"inputs": [tensor()], "outputs": [{"name": "OUTPUT0", "parameters": {"classification": -1}}]},
        "Unable to parse 'classification': attempt to access JSON non-unsigned-integer",
    ),
    "priority": ({"inputs": [tensor()], "parameters": {"priority": "x"}}, "Unable to parse 'priority'"),
    "sequence": ({"inputs": [tensor()], "parameters": {"sequence_id": 1.5}}, "Unable to parse 'sequence_id'"),
    "parameter": (
        {"inputs": [tensor()], "parameters": {"own": [1]}},
        "parameter 'own' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ),
    "reserved": (
        {"inputs": [tensor()], "parameters": {"triton_x": True}},
        "parameter keys starting with 'triton_' are reserved",
    ),
}


@pytest.mark.parametrize(("body", "text"), WRONG.values(), ids=WRONG)
def test_a_clients_mistake_is_400_with_the_inference_servers_text(site, body, text):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with site.client() as client:
        answer = client.ask("POST", "/v2/models/identity/infer", body)
        assert answer.status == 400
        assert answer.error.startswith(text)
        assert client.ask("GET", "/v2/health/live").status == 200
    assert not site.core.requests


@pytest.mark.parametrize(
    ("size", "data", "header", "text"),
    [
        (64, 60, None, "unexpected size for input 'INPUT0', expecting 4 additional bytes"),
        (64, 65, None, "unexpected additional input data for model 'identity'"),
        (
            32,
            32,
            None,
            "input byte size mismatch for input 'INPUT0' for model 'identity'. Expected 64, got 32",
        ),
        (64, 64, "100000", "inference header size should be in range (0, "),
        (64, 64, "-1", "inference header size should be in range (0, "),
        (64, 64, "x", "Inference-Header-Content-Length has to be a number"),
        (64, 64, "20", "failed to parse the request JSON buffer"),
        (-1, 64, None, "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(site, size, data, header, text):
    head = {"inputs": [without("data", parameters={"binary_data_size": size})]}
    headers = {} if header is None else {"Inference_Header_Content_Length": header}
    with site.client() as client:
        client.send(binary_request("identity", ARRAY[:1], data=bytes(data), head=head, **headers))
        answer = client.answer()
    assert answer.status == 400
    assert answer.error.startswith(text)


class TestFailures:
    def test_an_unknown_model(self, site):
        assert site.infer("nope", {"inputs": [tensor()]}).status == 404

    def test_a_queue_that_is_full_is_to_be_asked_again(self, site):
        answer = site.infer("refusing", {"inputs": [tensor()]})
        assert (answer.status, answer.error) == (503, "Exceeds maximum queue size")
        assert answer.headers["retry-after"] == "1"

    def test_a_model_that_fails(self, site):
        answer = site.infer("failing", {"inputs": [tensor()]})
        assert (answer.status, answer.error) == (500, "the engine could not run")

    def test_a_decoupled_model_is_for_grpc(self, site):
        given = tensor([3], name="IN", shape=[1], datatype="INT32")
        answer = site.infer("repeat", {"inputs": [given]})
        assert answer.status == 501
        assert answer.error == "HTTP end point doesn't support models with decoupled transaction policy"
        assert not site.core.requests

    def test_a_model_that_answers_again_without_having_said_so_is_given_up(self, site):
        given = tensor([3], name="IN", shape=[1], datatype="INT32")
        assert site.infer("undeclared", {"inputs": [given]}).status == 501
        assert site.core.requests[0].is_cancelled

    def test_a_fault_of_edgerts_own_is_logged_and_answered(self, site, monkeypatch, caplog):
        monkeypatch.setattr(site.core, "model_metadata", lambda *_: 1 / 0)
        with site.client() as client:
            answer = client.ask("GET", "/v2/models/identity")
            assert (answer.status, answer.error) == (500, "internal error; see the log")
            assert client.ask("GET", "/v2").status == 200
        assert "ZeroDivisionError" in caplog.text

    def test_a_response_that_cannot_be_encoded_does_not_end_the_lane(self, site, monkeypatch, caplog):
        monkeypatch.setattr(site.core, "labels", lambda *_: 1 / 0)
        outputs = [{"name": "OUTPUT0", "parameters": {"classification": 1}}]
        assert site.infer("identity", {"inputs": [tensor()], "outputs": outputs}).status == 500
        assert site.infer("identity", {"inputs": [tensor()]}).status == 200
        assert "ZeroDivisionError" in caplog.text


class TestControl:
    def test_the_index(self, site):
        site.core.loaded.discard("add")
        found = site.ask("POST", "/v2/repository/index").json()
        assert {"name": "add", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in found
        assert {"name": "identity", "version": "1", "state": "READY"} in found
        ready = site.ask("POST", "/v2/repository/index", b'{"ready":true}').json()
        assert "add" not in {entry["name"] for entry in ready}

    def test_load_and_unload(self, site):
        assert site.ask("POST", "/v2/repository/models/identity/load").body == b""
        body = json.dumps({"parameters": {"config": "{}", "file:1/model.onnx": "aGFsbG8="}}).encode()
        assert site.ask("POST", "/v2/repository/models/identity/load", body).status == 200
        body = b'{"parameters":{"unload_dependents":true}}'
        assert site.ask("POST", "/v2/repository/models/identity/unload", body).status == 200
        assert site.core.changes == [
            ("load", "identity", None, None),
            ("load", "identity", "{}", {"1/model.onnx": b"hallo"}),
            ("unload", "identity", True),
        ]

    @pytest.mark.parametrize(
        "parameters",
        [
            {"config": 5},
            {"file:1/x": "aGFsbG8="},
            {"config": "{}", "file:1/x": "?"},
            {"config": "{}", "file:1/x": 5},
        ],
    )
    def test_malformed_loads_are_refused(self, site, parameters):
        body = json.dumps({"parameters": parameters}).encode()
        assert site.ask("POST", "/v2/repository/models/identity/load", body).status == 400
        assert not site.core.changes

    @pytest.mark.parametrize(
        ("error", "status"), [(ModelError("no plan"), 500), (UnsupportedError("mode is none"), 501)]
    )
    def test_a_load_that_fails(self, site, error, status):
        site.core.load_failure = error
        answer = site.ask("POST", "/v2/repository/models/identity/load")
        assert (answer.status, answer.error) == (status, str(error))

    def test_slow_loads_hold_up_nobody(self, site):
        site.core.may_load.clear()
        with ExitStack() as stack:
            loaders = [stack.enter_context(site.client()) for _ in range(6)]
            for loader in loaders:
                loader.send(b"POST /v2/repository/models/identity/load HTTP/1.1\r\nHost: x\r\n\r\n")
            assert site.ask("GET", "/v2/models/identity/ready").status == 200
            assert site.ask("GET", "/metrics").status == 200
            site.core.may_load.set()
            assert [loader.answer().status for loader in loaders] == [200] * 6

    def test_web_pages_change_nothing(self, site):
        for path in ("/v2/repository/models/identity/load", "/v2/systemsharedmemory/unregister"):
            assert site.ask("POST", path, Origin="http://evil").status == 403
        assert not site.core.changes

    def test_control_is_off_unless_allowed(self):
        with HttpSite(control=False) as site:
            for path in ("/v2/repository/models/identity/unload", "/v2/logging", "/v2/trace/setting"):
                answer = site.ask("POST", path, b"{}")
                assert (answer.status, "http.control" in answer.error) == (403, True)
            assert site.ask("POST", "/v2/repository/index").status == 200
            assert not site.core.changes

    def test_the_logs_level_may_be_changed(self, site):
        logger = logging.getLogger("edgert")
        before = logger.level
        try:
            changed = site.ask("POST", "/v2/logging", b'{"log_verbose_level":1}').json()
            assert (changed["log_verbose_level"], logger.level) == (1, logging.DEBUG)
            body = b'{"log_verbose_level":0,"log_info":false}'
            assert site.ask("POST", "/v2/logging", body).json()["log_warning"] is True
            assert logger.level == logging.WARNING
        finally:
            logger.setLevel(before)
        assert site.ask("POST", "/v2/logging", b'{"log_info":5}').status == 400
        assert site.ask("POST", "/v2/logging", b'{"log_file":"/x"}').status == 501

    def test_there_is_no_tracing(self, site):
        assert site.ask("GET", "/v2/trace/setting").json()["trace_level"] == ["OFF"]
        assert site.ask("POST", "/v2/trace/setting", b'{"trace_level":["OFF"]}').status == 200
        assert site.ask("POST", "/v2/trace/setting", b'{"trace_level":["TIMESTAMPS"]}').status == 501

    def test_there_is_no_shared_memory_of_cuda(self, site):
        assert site.ask("GET", "/v2/cudasharedmemory/status").json() == []
        absent = site.ask("GET", "/v2/cudasharedmemory/region/x/status")
        assert (absent.status, absent.error) == (404, "Unable to find cuda shared memory region: 'x'")
        assert site.ask("POST", "/v2/cudasharedmemory/region/x/register", b"{}").status == 501
        assert site.ask("POST", "/v2/cudasharedmemory/unregister").status == 200
