"""ModelStreamInfer: decoupled models, order, errors, cancellation, limits."""

from __future__ import annotations

import asyncio
import queue
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edgert.serve.gate import Gate
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.stream import InferStream
from edgert.serve.grpc.transport.http2 import END_HEADERS, END_STREAM, Kind
from edgert.serve.grpc.transport.status import Code
from edgert.serve.mailbox import Mailbox
from edgert.serve.options import LimitOptions
from tests.unit.serve.grpc.asking import SERVICE, message, ones, tensor
from tests.unit.serve.grpc.http2_client import Client, block, framed

WAIT_S = 5.0


class Stream:
    """A ModelStreamInfer call whose requests are sent one by one."""

    def __init__(self, channel):
        self._requests = queue.SimpleQueue()
        call = channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelStreamInferResponse.FromString,
        )
        self.call = call(iter(self._requests.get, None))

    def send(self, *requests):
        for request in requests:
            self._requests.put(request)

    def end(self):
        self._requests.put(None)

    def take(self, count):
        return [next(self.call) for _ in range(count)]

    def rest(self):
        self.end()
        return list(self.call)


@pytest.fixture
def open_stream():
    channels, streams = [], []

    def open_to(address):
        channels.append(grpc.insecure_channel(address))
        streams.append(Stream(channels[-1]))
        return streams[-1]

    yield open_to
    for stream in streams:
        stream.call.cancel()
        stream.end()
    for channel in channels:
        channel.close()


@pytest.fixture
def stream(address, open_stream):
    return open_stream(address)


def repeat(count, **fields):
    return message("repeat", np.array([count], np.int32), name="IN", **fields)


def with_empty_final(request):
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def summary(response):
    """Return id, value, whether it is the last, and the error."""
    inner = response.infer_response
    raws = [int(np.frombuffer(raw, np.int32)[0]) for raw in inner.raw_output_contents]
    return inner.id, raws, inner.parameters["triton_final_response"].bool_param, response.error_message


def waited_for(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()


def test_a_decoupled_model_gives_none_one_or_many_responses(stream):
    stream.send(repeat(2, id="two"), repeat(0, id="none"), repeat(1, id="one"))
    assert [summary(response) for response in stream.rest()] == [
        ("two", [0], False, ""),
        ("two", [1], False, ""),
        ("one", [0], False, ""),
    ]


def test_the_empty_final_response_comes_where_it_is_asked_for(stream):
    stream.send(with_empty_final(repeat(1, id="one")), with_empty_final(repeat(0, id="none")))
    assert [summary(response) for response in stream.rest()] == [
        ("one", [0], False, ""),
        ("one", [], True, ""),
        ("none", [], True, ""),
    ]


def test_the_response_of_another_model_is_the_final_one(stream):
    stream.send(message(id="x"))
    (response,) = stream.rest()
    assert response.infer_response.parameters["triton_final_response"].bool_param
    assert response.infer_response.raw_output_contents[0] == ones().tobytes()
    assert response.infer_response.model_version == "3"


def test_an_error_is_a_message_and_the_stream_goes_on(stream):
    stream.send(message("nope", id="a"), message("failing", id="b"), message(id="c", model_version="x"))
    stream.send(message(id="d"))
    responses = {response.infer_response.id: response.error_message for response in stream.rest()}
    assert responses == {
        "a": "Request for unknown model: 'nope' is not found",
        "b": "the engine could not run",
        "c": "failed to get model version from specified version string 'x' (details: stol), version should "
        "be an integral value > 0",
        "d": "",
    }


def test_requests_are_answered_as_they_complete(stream, core):
    stream.send(message("slow", id="first"), message(id="second"))
    assert [summary_id(response) for response in stream.take(1)] == ["second"]
    core.finish()
    assert [summary_id(response) for response in stream.rest()] == ["first"]


def summary_id(response):
    return response.infer_response.id


def test_a_client_that_leaves_cancels_all_its_requests(stream, core):
    stream.send(message("slow"), message("slow"))
    assert waited_for(lambda: len(core.requests) == 2)
    stream.call.cancel()
    assert waited_for(lambda: all(request.is_cancelled for request in core.requests))
    core.finish()
    core.finish()


def test_what_takes_too_long_is_given_up_and_the_stream_goes_on(serve, open_stream, core):
    gate = Gate(4)
    stream = open_stream(serve(limits=LimitOptions(answer_s=0.1), gate=gate))
    stream.send(message("slow", id="late"))
    (response,) = stream.take(1)
    assert (response.infer_response.id, response.error_message) == ("late", "Deadline Exceeded")
    assert core.requests[0].is_cancelled
    core.finish()
    assert waited_for(lambda: gate.under_way == 0)
    stream.send(message(id="next"))
    assert [summary_id(response) for response in stream.rest()] == ["next"]


def test_a_stream_that_sends_too_much_waits_and_loses_nothing(serve, open_stream, core):
    gate = Gate(4)
    stream = open_stream(serve(gate=gate))
    stream.send(*(message("slow", id=str(index)) for index in range(6)))
    assert waited_for(lambda: len(core.requests) == 2)
    assert gate.under_way == 2
    for _ in range(6):
        core.finish()
    assert sorted(summary_id(response) for response in stream.rest()) == [str(index) for index in range(6)]


def test_a_request_that_finds_no_room_is_told_so(serve, open_stream):
    gate = Gate(1)
    assert gate.enter()
    stream = open_stream(serve(gate=gate))
    stream.send(message())
    (response,) = stream.take(1)
    assert response.error_message == "1 requests are under way; try again later"


def test_many_and_large_responses_all_come(stream):
    array = np.arange(300_000, dtype=np.float32)
    stream.send(*(message("identity_fp32", array, id=str(index)) for index in range(20)))
    responses = stream.rest()
    assert [summary_id(response) for response in responses] == [str(index) for index in range(20)]
    assert all(response.infer_response.raw_output_contents[0] == array.tobytes() for response in responses)


def test_a_client_that_takes_nothing_is_cut_off(serve, open_stream, core):
    stream = open_stream(serve(limits=LimitOptions(arrive_s=0.2)))
    array = np.zeros(3_000_000, np.float32)
    stream.send(*(message("identity_fp32", array) for _ in range(4)))
    time.sleep(0.6)  # the client reads on its own until its window is full
    with pytest.raises(grpc.RpcError) as raised:
        stream.rest()
    assert raised.value.code() is grpc.StatusCode.CANCELLED


def test_a_client_that_takes_its_responses_late_waits_and_loses_nothing(serve):
    request = framed(message("identity_fp32", np.zeros(27_500, np.float32)).SerializeToString())
    with Client(serve(limits=LimitOptions(request_mb=1))) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        for at in range(0, len(request) * 10, 16_000):
            client.send(Kind.DATA, 0, 1, (request * 10)[at : at + 16_000])
        client.send(Kind.PING, 0, 0, b"12345678")
        while (read := client.read())[0] != Kind.PING:
            assert read[0] != Kind.RST_STREAM
        time.sleep(0.2)
        client.send(Kind.DATA, END_STREAM, 1)
        for stream in (0, 1):
            client.send(Kind.WINDOW_UPDATE, 0, stream, (1 << 24).to_bytes(4, "big"))
        assert client.status() == (Code.OK, "")


def test_a_client_that_takes_nothing_has_no_more_requests_begun(address, core):
    request = framed(message("identity_fp32", np.zeros(200_000, np.float32)).SerializeToString())
    with Client(address) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        for count in range(1, 8):
            for at in range(0, len(request), 16_000):
                client.send(Kind.DATA, 0, 1, request[at : at + 16_000])
            if count <= 6:
                assert waited_for(lambda count=count: len(core.requests) == count)
                time.sleep(0.05)
        time.sleep(0.2)
        assert len(core.requests) < 7
        for stream in (0, 1):
            client.send(Kind.WINDOW_UPDATE, 0, stream, (1 << 24).to_bytes(4, "big"))
        assert waited_for(lambda: len(core.requests) == 7)


def test_a_client_that_takes_nothing_of_what_a_model_pushes_is_cut_off(serve):
    with Client(serve(limits=LimitOptions(request_mb=1))) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        client.send(Kind.DATA, 0, 1, framed(repeat(20_000).SerializeToString()))
        assert client.read_kind(Kind.RST_STREAM)[2] == 1


def test_a_stream_that_is_not_read_is_allowed_no_more(serve, core):
    gate = Gate(2)
    with Client(serve(gate=gate, limits=LimitOptions(arrive_s=0.2))) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        waiting = framed(message("slow").SerializeToString()) * 3
        client.send(Kind.DATA, 0, 1, waiting + framed(bytes(100_000))[:1000])
        assert waited_for(lambda: len(core.requests) == 1)
        for _ in range(4):
            client.send(Kind.DATA, 0, 1, bytes(16_000))
        time.sleep(0.5)
        client.send(Kind.PING, 0, 0, b"12345678")
        while (read := client.read())[0] != Kind.PING:
            assert read[0] != Kind.RST_STREAM
            assert read[0] != Kind.WINDOW_UPDATE or read[2] == 0
        for _ in range(3):
            core.finish()
        while client.read_kind(Kind.WINDOW_UPDATE)[2] != 1:
            pass
        client.send(Kind.DATA, 0, 1, bytes(16_000))
        client.send(Kind.DATA, 0, 1, bytes(16_000))
        client.send(Kind.DATA, END_STREAM, 1, bytes(100_005 - 1000 - 6 * 16_000))
        assert client.status() == (Code.OK, "")


def test_a_large_message_passes_a_small_window(stream):
    array = np.zeros(1_000_000, np.float32)
    stream.send(message("identity_fp32", array))
    assert stream.rest()[0].infer_response.raw_output_contents[0] == array.tobytes()


def test_many_requests_in_one_piece_hold_nobody_up(core):
    async def turns_meanwhile():
        loop, turns = asyncio.get_running_loop(), 0
        desk = Desk(core, None, LimitOptions(), Gate(4), None, loop, Mailbox(loop))
        answering = asyncio.ensure_future(InferStream(desk, Full(100)).run())
        while not answering.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(turns_meanwhile()) > 20


class Full:
    """A call that has all its messages, and whose client takes responses at once."""

    is_local = True

    def __init__(self, count):
        self._count = count

    async def read(self):
        self._count -= 1
        return b"" if self._count >= 0 else None

    async def write(self, message):
        pass


def test_garbage_in_a_stream_is_an_error_message(address):
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        responses = list(call(iter([b"\xff\xff", message().SerializeToString()])))
    assert [response.error_message for response in responses] == ["Unable to parse request", ""]


def test_the_clients_streaming_call_is_answered(client):
    answers = queue.SimpleQueue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    array = np.array([3], np.int32)
    client.async_stream_infer("repeat", [tensor("IN", array)], enable_empty_final_response=True)
    found = [answers.get(timeout=WAIT_S) for _ in range(4)]
    client.stop_stream()
    assert all(error is None for _, error in found)
    assert [result.as_numpy("OUT").tolist() for result, _ in found[:3]] == [[0], [1], [2]]
    assert found[3][0].get_response().parameters["triton_final_response"].bool_param
