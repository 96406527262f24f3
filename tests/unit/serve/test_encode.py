"""Responses as JSON and bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgert.errors import (
    BusyError,
    CancelledError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.frames.request import InferResponse
from edgert.serve.encode import ResponseEncoder, Wish, json_data, tensor_bytes
from edgert.serve.http.message import Answer, RefusedError, encode_answer, error_answer, status_of
from tests.fakes.core import FakeCore

BINARY = Wish(is_binary=True)


def encode(outputs, wishes=None, otherwise=BINARY, model="identity", **fields):
    response = InferResponse(model, 1, outputs=outputs, **fields)
    return ResponseEncoder(FakeCore(), wishes or {}, otherwise).encode(response)


def test_a_tensor_that_is_whole_is_not_copied():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    [tensor] = encode({"y": array}).tensors
    assert np.frombuffer(tensor, np.float32).base is not None
    array[0, 0] = 9
    assert bytes(tensor[:4]) == np.float32(9).tobytes()


def test_a_tensor_with_gaps_is_put_together():
    array = np.arange(6, dtype=np.int16).reshape(2, 3).T
    assert bytes(tensor_bytes(array)) == array.tobytes()
    assert bytes(tensor_bytes(np.float64(2.5).reshape(()))) == np.float64(2.5).tobytes()
    assert bytes(tensor_bytes(np.empty((0, 4), np.int8))) == b""


def test_tensors_follow_in_the_order_of_the_outputs():
    encoded = encode(
        {"a": np.zeros(1, np.int8), "b": np.ones(2, np.int8), "c": np.array([b"xy"], object)},
        {"b": Wish()},
    )
    outputs = json.loads(encoded.json)["outputs"]
    assert [output["name"] for output in outputs] == ["a", "b", "c"]
    assert outputs[0]["parameters"] == {"binary_data_size": 1}
    assert outputs[1]["data"] == [1, 1]
    assert outputs[2] == {
        "name": "c",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": 6},
    }
    assert b"".join(encoded.tensors) == b"\0\x02\0\0\0xy"


def test_id_and_parameters_are_told_where_there_are_any():
    bare = json.loads(encode({}).json)
    assert bare == {"model_name": "identity", "model_version": "1", "outputs": []}
    full = json.loads(encode({}, id="7", parameters={"k": True}).json)
    assert (full["id"], full["parameters"]) == ("7", {"k": True})


def test_bf16_is_told_from_uint16_by_the_model():
    array = np.zeros(1, np.uint16)
    for model, datatype in (("identity_bf16", "BF16"), ("identity_uint16", "UINT16")):
        [output] = json.loads(encode({"OUTPUT0": array}, model=model).json)["outputs"]
        assert output["datatype"] == datatype


def test_a_dtype_without_a_name_is_a_fault_of_the_model():
    with pytest.raises(EdgertError, match="complex64") as caught:
        encode({"y": np.zeros(1, np.complex64)})
    assert status_of(caught.value) == 500


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[1, -2]], np.int64), b"[1,-2]"),
        (np.array([True, False]), b"[true,false]"),
        (np.array([0.1, 1], np.float32), b"[0.10000000149011612,1.0]"),
        (np.array([1e300]), b"[1e300]"),
        (np.array([np.nan, -np.inf, 1]), b"[NaN,-Infinity,1.0]"),
        (np.array([2**64 - 1], np.uint64), b"[18446744073709551615]"),
        (np.array(["é", b"a"], object), '["é","a"]'.encode()),
        (np.empty((0, 2), np.float32), b"[]"),
    ],
)
def test_elements_in_json_are_as_the_inference_server_writes_them(array, text):
    assert bytes(json_data(array, "BYTES" if array.dtype == object else "", "y")) == text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("x"), 400),
        (UnknownModelError("x"), 404),
        (UnavailableError("x"), 503),
        (UnsupportedError("x"), 501),
        (CancelledError("x"), 499),
        (ModelError("x"), 500),
        (BusyError("x"), 500),
        (RefusedError(431, "why", "x"), 431),
    ],
)
def test_each_error_has_its_status(error, status):
    answer = error_answer(error)
    assert answer.status == status
    assert json.loads(answer.body[0]) == {"error": "x"}
    assert encode_answer(answer).startswith(b"HTTP/1.1 %d " % status)
    assert (("Retry-After", "1") in answer.headers) == (status == 503)


def test_an_answer_is_one_piece():
    answer = Answer(200, (b"ab", memoryview(np.arange(2, dtype=np.uint8))), "x/y", (("A", "1"),))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nA: 1\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
    assert encode_answer(answer, connection="close") == head + b"ab\0\x01"
    assert encode_answer(answer, connection="close", is_head=True) == head
