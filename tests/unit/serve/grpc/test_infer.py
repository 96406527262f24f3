"""ModelInfer through tritonclient's clients."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import aio as aioclient
from tritonclient.utils import InferenceServerException

from edgert.frames.request import SequenceStep
from edgert.serve.datatypes import DTYPE_OF_DATATYPE
from edgert.serve.gate import Gate
from edgert.serve.options import LimitOptions
from tests.unit.serve.grpc.asking import SERVICE, message, ones, tensor, wanted

NUMBERS = [name for name in DTYPE_OF_DATATYPE if name not in ("BYTES", "BF16", "BOOL")]


def status_of(client, *arguments, **options):
    with pytest.raises(InferenceServerException) as raised:
        client.infer(*arguments, **options)
    return raised.value.status().removeprefix("StatusCode."), raised.value.message()


def waited_for(condition, timeout_s=5.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()


def test_a_response_has_what_the_model_made(client):
    result = client.infer("identity", [tensor("INPUT0", ones(2))], request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ones(2))
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("identity", "3", "seven")
    assert not response.parameters


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_datatype_comes_back_as_it_went(client, datatype):
    array = np.array([0, 1, 100], DTYPE_OF_DATATYPE[datatype])
    result = client.infer(f"identity_{datatype.lower()}", [tensor("INPUT0", array)])
    assert result.get_output("OUTPUT0").datatype == datatype
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


def test_truth_values_and_texts_come_back_as_they_went(client):
    truths = np.array([True, False])
    result = client.infer("identity_bool", [tensor("INPUT0", truths)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), truths)
    texts = np.array([b"", "größer".encode(), b"\x00\xff"], object)
    result = client.infer("identity_bytes", [tensor("INPUT0", texts)])
    assert list(result.as_numpy("OUTPUT0")) == list(texts)


def test_bf16_is_named_as_its_model_names_it(client):
    array = np.array([1.0, -2.5], np.float32)
    result = client.infer("identity_bf16", [tensor("INPUT0", array, "BF16")])
    assert result.get_output("OUTPUT0").datatype == "BF16"
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


def test_a_large_input_reaches_the_core_as_a_view_of_the_message(client, core):
    array = np.arange(100_000, dtype=np.float32)
    result = client.infer("identity_fp32", [tensor("INPUT0", array)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
    seen = core.requests[-1].inputs["INPUT0"]
    assert not seen.flags.owndata
    assert not seen.flags.writeable


def test_many_long_texts_are_read(client):
    texts = np.array([b"x" * 1000] * 1000, object)
    result = client.infer("identity_bytes", [tensor("INPUT0", texts)])
    assert list(result.as_numpy("OUTPUT0")) == list(texts)


def test_only_the_outputs_that_are_asked_for_come_in_that_order(client):
    inputs = [tensor(name, np.full((1, 16), n, np.int32)) for name, n in (("INPUT0", 5), ("INPUT1", 3))]
    result = client.infer("add", inputs, outputs=[wanted("OUTPUT1"), wanted("OUTPUT0")])
    assert [output.name for output in result.get_response().outputs] == ["OUTPUT1", "OUTPUT0"]
    assert (result.as_numpy("OUTPUT0") == 8).all()
    assert (result.as_numpy("OUTPUT1") == 2).all()
    result = client.infer("add", inputs, outputs=[wanted("OUTPUT1")])
    assert [output.name for output in result.get_response().outputs] == ["OUTPUT1"]


def test_classes_come_as_text_with_their_labels(client):
    scores = np.array([[0.1, 0.7, 0.2, 0.0], [9, 8, 7, 6]], np.float32)
    result = client.infer("classify", [tensor("IN", scores)], outputs=[wanted("SCORES", class_count=2)])
    assert result.get_output("SCORES").datatype == "BYTES"
    assert result.as_numpy("SCORES").tolist() == [
        [b"0.700000:1:dog", b"0.200000:2:bird"],
        [b"9.000000:0:cat", b"8.000000:1:dog"],
    ]


def test_parameters_reach_the_core(client, core):
    client.infer(
        "identity",
        [tensor("INPUT0", ones())],
        model_version="1",
        request_id="a",
        sequence_id=7,
        sequence_start=True,
        priority=2,
        timeout=1500,
        parameters={"word": "x", "count": 3, "on": True},
    )
    request = core.requests[-1]
    assert (request.version, request.id, request.priority, request.timeout_us) == (1, "a", 2, 1500)
    assert request.sequence == SequenceStep(7, is_start=True)
    assert request.parameters == {"word": "x", "count": 3, "on": True}
    assert request.arrived_mono_ns > 0


def test_a_sequence_adds_up_under_a_number_and_under_a_text(client):
    for sequence in (5, "five"):
        for value, start, end, expected in ((1, True, False, 1), (2, False, False, 3), (4, False, True, 7)):
            result = client.infer(
                "accumulate",
                [tensor("IN", np.array([[value]], np.int32))],
                sequence_id=sequence,
                sequence_start=start,
                sequence_end=end,
            )
            assert result.as_numpy("OUT").tolist() == [[expected]]


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("nope", "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
        ("refusing", "UNAVAILABLE", "Exceeds maximum queue size"),
        ("failing", "INTERNAL", "the engine could not run"),
    ],
)
def test_errors_have_the_status_of_their_kind(client, model, code, words):
    assert status_of(client, model, [tensor("INPUT0", ones())]) == (code, words)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            "x",
            "failed to get model version from specified version string 'x' (details: stol), version should",
        ),
        ("9" * 30, "failed to get model version from specified version string"),
        ("-1", "invalid model version specified '-1' , version should be an integral value > 0"),
    ],
)
def test_a_version_that_is_no_number_is_refused(client, version, words):
    code, text = status_of(client, "identity", [tensor("INPUT0", ones())], model_version=version)
    assert code == "INVALID_ARGUMENT"
    assert words in text


@pytest.mark.parametrize(("model", "begun"), [("repeat", 0), ("undeclared", 2)])
def test_a_decoupled_model_needs_a_stream(client, core, model, begun):
    for count in (0, 2):
        assert status_of(client, model, [tensor("IN", np.array([count], np.int32))]) == (
            "UNIMPLEMENTED",
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        )
    assert len(core.requests) == begun


def test_a_client_that_leaves_cancels_its_request(client, core):
    call = client.async_infer("slow", [tensor("INPUT0", ones())], callback=lambda result, error: None)
    assert waited_for(lambda: core.requests)
    assert not core.requests[0].is_cancelled
    call.cancel()
    assert waited_for(lambda: core.requests[0].is_cancelled)
    core.finish()


def test_a_deadline_that_passes_cancels_its_request(client, core):
    code, _ = status_of(client, "slow", [tensor("INPUT0", ones())], client_timeout=0.1)
    assert code == "DEADLINE_EXCEEDED"
    assert waited_for(lambda: core.requests[0].is_cancelled)
    core.finish()


def test_an_answered_request_is_not_cancelled(client, core):
    client.infer("identity", [tensor("INPUT0", ones())])
    assert not core.requests[0].is_cancelled


def test_an_inference_that_takes_too_long_is_given_up(serve, connect, core):
    client = connect(serve(limits=LimitOptions(answer_s=0.1)))
    code, text = status_of(client, "slow", [tensor("INPUT0", ones())])
    assert (code, text) == ("DEADLINE_EXCEEDED", "Deadline Exceeded")
    assert core.requests[0].is_cancelled
    core.finish()


def test_what_comes_while_too_much_is_under_way_is_refused(serve, connect, core):
    gate = Gate(1)
    client = connect(serve(gate=gate))
    done = threading.Event()
    client.async_infer("slow", [tensor("INPUT0", ones())], callback=lambda result, error: done.set())
    assert waited_for(lambda: core.requests)
    code, text = status_of(client, "identity", [tensor("INPUT0", ones())])
    assert (code, text) == ("UNAVAILABLE", "1 requests are under way; try again later")
    core.finish()
    assert done.wait(5)
    client.infer("identity", [tensor("INPUT0", ones())])
    assert waited_for(lambda: gate.under_way == 0)


def test_refused_requests_leave_the_gate(serve, connect):
    gate = Gate(8)
    client = connect(serve(gate=gate))
    for model in ("nope", "refusing", "failing"):
        status_of(client, model, [tensor("INPUT0", ones())])
    assert waited_for(lambda: gate.under_way == 0)


def test_many_at_once_each_get_their_own(client):
    answers, all_here = {}, threading.Event()

    def keep(index, result, error):
        answers[index] = error or result.as_numpy("OUTPUT0")[0, 0]
        if len(answers) == 100:
            all_here.set()

    for index in range(100):
        array = np.full((1, 16), index, np.float32)
        client.async_infer("identity", [tensor("INPUT0", array)], callback=_at(keep, index))
    assert all_here.wait(10)
    assert answers == {index: index for index in range(100)}


def _at(keep, index):
    return lambda result, error: keep(index, result, error)


def test_the_client_for_asyncio_is_answered(address):
    async def ask():
        async with aioclient.InferenceServerClient(address) as client:
            asked = [client.infer("identity", [tensor("INPUT0", ones())]) for _ in range(10)]
            return [result.as_numpy("OUTPUT0") for result in await asyncio.gather(*asked)]

    for array in asyncio.run(ask()):
        np.testing.assert_array_equal(array, ones())


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_read(client, algorithm):
    array = np.zeros(10_000, np.float32)
    result = client.infer("identity_fp32", [tensor("INPUT0", array)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x10a", b"\x0a", b"\x3a\x05ab", b"\x80" * 5000])
def test_what_is_no_message_is_refused(address, data):
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(SERVICE + "ModelInfer")(data)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "Unable to parse request"


def test_an_unknown_method_is_not_implemented(address):
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(SERVICE + "Nope")(message().SerializeToString())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_fault_of_edgerts_own_is_told_and_logged_and_nothing_else_suffers(
    client, core, caplog, monkeypatch
):
    def fail(*_, **__):
        raise ZeroDivisionError("of ours")

    with monkeypatch.context() as patch:
        patch.setattr(core, "infer", fail)
        patch.setattr(core, "model_metadata", fail)
        patch.setattr(core, "load", fail)
        expected = ("INTERNAL", "internal error; see the log")
        assert status_of(client, "identity", [tensor("INPUT0", ones())]) == expected
        for call in (client.get_model_metadata, client.load_model):
            with pytest.raises(InferenceServerException) as raised:
                call("identity")
            assert raised.value.message() == expected[1]
        # BF16 is looked up in the metadata while the response is written, on the core's thread
        patch.undo()
        patch.setattr(core, "model_metadata", fail)
        bf16 = tensor("INPUT0", np.ones(2, np.float32), "BF16")
        assert status_of(client, "identity_bf16", [bf16]) == expected
    assert caplog.text.count("ZeroDivisionError: of ours") == 4
    client.infer("identity", [tensor("INPUT0", ones())])
