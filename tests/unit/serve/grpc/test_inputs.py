"""What requests may be wrong in, and typed contents."""

from __future__ import annotations

import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from edgert.serve.datatypes import DTYPE_OF_DATATYPE
from tests.unit.serve.grpc.asking import message

CONTENTS = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32768, 5]),
    "INT32": ("int_contents", [-1, 7]),
    "INT64": ("int64_contents", [-(1 << 63), 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, (1 << 32) - 1]),
    "UINT64": ("uint64_contents", [0, (1 << 64) - 1]),
    "FP32": ("fp32_contents", [0.5, -2.0]),
    "FP64": ("fp64_contents", [0.1, -2.0]),
    "BYTES": ("bytes_contents", [b"", b"text"]),
}


@pytest.fixture
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def typed(datatype, values, shape=None, field=None, model=None):
    request = service_pb2.ModelInferRequest(model_name=model or f"identity_{datatype.lower()}")
    given = request.inputs.add(name="INPUT0", datatype=datatype, shape=shape or [len(values)])
    getattr(given.contents, field or CONTENTS[datatype][0]).extend(values)
    return request


def raw(datatype, shape, *data, model="identity_fp32"):
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=data)
    request.inputs.add(name="INPUT0", datatype=datatype, shape=shape)
    return request


def refusal(stub, request):
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return raised.value.details().removeprefix("[request id: <id_unknown>] ")


@pytest.mark.parametrize("datatype", CONTENTS)
def test_typed_contents_come_back_as_they_went(stub, core, datatype):
    _, values = CONTENTS[datatype]
    stub.ModelInfer(typed(datatype, values))
    array = core.requests[-1].inputs["INPUT0"]
    assert array.dtype == np.dtype(DTYPE_OF_DATATYPE[datatype])
    assert array.tolist() == values


def test_no_elements_are_no_fault(stub, core):
    stub.ModelInfer(raw("FP32", [0], b""))
    assert core.requests[-1].inputs["INPUT0"].shape == (0,)
    stub.ModelInfer(raw("BYTES", [0], b"", model="identity_bytes"))
    assert core.requests[-1].inputs["INPUT0"].shape == (0,)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (typed("INT8", [128]), "input 'INPUT0' has numbers that int8 does not hold"),
        (typed("UINT16", [65536]), "input 'INPUT0' has numbers that uint16 does not hold"),
        (
            typed("FP32", [1], field="int_contents"),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'identity_fp32' of type "
            "'INT32', expected datatype 'FP32'",
        ),
        (
            typed("FP16", [1], field="fp32_contents"),
            "unexpected explicit tensor data for input tensor 'INPUT0' for model 'identity_fp16' of type "
            "'FP32', expected datatype 'FP16'",
        ),
        (
            typed("FP32", [1, 2], shape=[3]),
            "input byte size mismatch for input 'INPUT0' for model 'identity_fp32'. Expected 12, got 8",
        ),
        (
            typed("BYTES", [b"a"], shape=[2]),
            "expected 2 string elements for inference input 'INPUT0' for model 'identity_bytes', got 1",
        ),
        (
            raw("FP32", [3]),
            "unable to find data for input tensor 'INPUT0' for model 'identity_fp32' in request.",
        ),
        (
            raw("FP32", [3], b"1" * 16),
            "input byte size mismatch for input 'INPUT0' for model 'identity_fp32'. Expected 12, got 16",
        ),
        (raw("FP32", [1], b"1234", b""), "expected 1 raw_input_contents for model 'identity_fp32', got 2"),
        (raw("XX", [1], b"1234"), "unknown datatype 'XX'"),
        (raw("FP32", [-1, -1], b"1234"), "input 'INPUT0' has a side below 0: [-1, -1]"),
        (
            raw("BYTES", [1 << 40], b"", model="identity_bytes"),
            "inference input 'INPUT0': a BYTES tensor of 1099511627776 elements has at least 4398046511104 "
            "bytes, 0 came",
        ),
        (
            raw("BYTES", [1], b"\x05\0\0\0ab", model="identity_bytes"),
            "inference input 'INPUT0': element 0 of a BYTES tensor has 5 bytes, 2 came",
        ),
    ],
)
def test_what_is_wrong_with_an_input_is_said(stub, request_, words):
    assert refusal(stub, request_) == words


@pytest.mark.parametrize("shape", [[0, 1 << 62, 1 << 62], [1] * 100])
def test_a_shape_that_no_array_has_is_refused(stub, shape):
    data = b"" if 0 in shape else b"1234"
    assert refusal(stub, raw("FP32", shape, data)).startswith("input 'INPUT0' cannot be held: ")


def test_a_shape_of_millions_of_sides_is_refused_at_once(stub):
    request = raw("FP32", [(1 << 63) - 1] * 500_000, b"1234")
    began_s = time.monotonic()
    assert refusal(stub, request) == "input 'INPUT0' cannot be held: it has more than 32 axes"
    assert time.monotonic() - began_s < 2.0


def test_an_input_may_come_once(stub):
    request = message()
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    assert refusal(stub, request) == "input 'INPUT0' already exists in request"


def test_raw_and_typed_contents_exclude_each_other(stub):
    request = typed("FP32", [1.0])
    request.raw_input_contents.append(b"1234")
    assert refusal(stub, request) == (
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for model "
        "'identity_fp32'"
    )


@pytest.mark.parametrize(
    ("key", "choice", "value", "words"),
    [
        (
            "priority",
            "string_param",
            "1",
            "invalid value type for 'priority' parameter, expected int64_param or",
        ),
        ("priority", "int64_param", -1, "invalid value for 'priority', expected value >= 0."),
        ("timeout", "string_param", "1", "invalid value type for 'timeout' parameter, expected int64_param."),
        ("timeout", "uint64_param", (1 << 53) + 1, "invalid value for 'timeout', expected value <= "),
        (
            "sequence_id",
            "bool_param",
            True,
            "invalid value type for 'sequence_id' parameter, expected int64_param",
        ),
        (
            "sequence_end",
            "int64_param",
            1,
            "invalid value type for 'sequence_end' parameter, expected bool_param.",
        ),
        (
            "triton_x",
            "int64_param",
            1,
            "parameter keys starting with 'triton_' are reserved for Triton usage.",
        ),
    ],
)
def test_parameters_have_their_types(stub, key, choice, value, words):
    request = message()
    setattr(request.parameters[key], choice, value)
    assert refusal(stub, request).startswith(words)


@pytest.mark.parametrize(
    ("choice", "value"), [("string_param", "2"), ("bool_param", True), ("int64_param", 0)]
)
def test_a_count_of_classes_is_a_number_above_0(stub, choice, value):
    request = message("classify", np.zeros((1, 4), np.float32), name="IN")
    setattr(request.outputs.add(name="SCORES").parameters["classification"], choice, value)
    assert "for 'classification' parameter, expected" in refusal(stub, request)


def test_a_negative_sequence_is_taken_as_the_inference_server_takes_it(stub, core):
    request = message()
    request.parameters["sequence_id"].int64_param = -1
    request.parameters["timeout"].int64_param = -1
    stub.ModelInfer(request)
    assert core.requests[-1].sequence.id == (1 << 64) - 1
    assert core.requests[-1].timeout_us == 0
