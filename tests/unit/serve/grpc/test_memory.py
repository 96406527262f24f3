"""How much memory calls may take, and what is not done on the fronts' thread."""

from __future__ import annotations

import gc
import struct
import threading
import zlib

import numpy as np
import pytest
from msgspec.structs import replace
from tritonclient.grpc import service_pb2
from tritonclient.utils import shared_memory

from edgert.serve.bodies import Bodies
from edgert.serve.core import ModelStatistics
from edgert.serve.gate import Gate
from edgert.serve.grpc import inputs
from edgert.serve.grpc.transport import arriving
from edgert.serve.grpc.transport.connection import Connection
from edgert.serve.grpc.transport.http2 import END_HEADERS, END_STREAM, ErrorCode, Kind
from edgert.serve.grpc.transport.status import Code
from edgert.serve.grpc.transport.streams import MOST_UNSENT_BYTES
from edgert.serve.options import LimitOptions
from tests.unit.serve.grpc.asking import SERVICE, message, tensor, wait_until
from tests.unit.serve.grpc.http2_client import INFER, Client, block, framed

SIZE = 700_000
BEGUN = struct.pack(">BI", 0, SIZE)
TEXTS = b"\x10\0\0\0abcdefghijklmnop" * 60_000  # 1.2 MB
SHORT_TEXTS = TEXTS[: 20 * 1000]


@pytest.fixture
def gate():
    gate = Gate(8, Bodies(LimitOptions(bodies_mb=1, json_mb=1)))
    yield gate
    wait_until(lambda: gate.bodies.held_bytes == 0)


@pytest.fixture
def threads(monkeypatch):
    """The threads that inflate messages and tell texts apart."""
    names = []

    def noted(function):
        return lambda *given: (names.append(threading.current_thread().name), function(*given))[1]

    monkeypatch.setattr(arriving, "inflate_into", noted(arriving.inflate_into))
    monkeypatch.setattr(inputs, "unpack_texts", noted(inputs.unpack_texts))
    return names


def texts(data, count, model="identity_bytes"):
    asked = service_pb2.ModelInferRequest(model_name=model)
    asked.inputs.add(name="INPUT0", datatype="BYTES", shape=[count])
    asked.raw_input_contents.append(data)
    return framed(asked.SerializeToString())


def send(client, stream, data, **changes):
    """Send a call in frames that are not too long."""
    client.send(Kind.HEADERS, END_HEADERS, stream, block(**changes))
    pieces = [data[start : start + 16_384] for start in range(0, len(data), 16_384)]
    for piece in pieces[:-1]:
        client.send(Kind.DATA, 0, stream, piece)
    client.send(Kind.DATA, END_STREAM, stream, pieces[-1])


def send_pieces(client, stream, data):
    """Send a part of a call's messages."""
    for start in range(0, len(data), 16_000):
        client.send(Kind.DATA, 0, stream, data[start : start + 16_000])


def test_announced_messages_take_nothing(serve, gate):
    with Client(serve(gate=gate)) as client:
        for stream in range(1, 41, 2):
            client.send(Kind.HEADERS, END_HEADERS, stream, block())
            client.send(Kind.DATA, 0, stream, BEGUN)
        client.call(41)
        assert client.status() == (Code.OK, "")
        assert gate.bodies.held_bytes == 0


def test_a_message_that_finds_no_room_as_it_comes_is_refused(serve, gate):
    with Client(serve(gate=gate)) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        send_pieces(client, 1, BEGUN + bytes(SIZE - 1000))
        client.send(Kind.HEADERS, END_HEADERS, 3, block())
        send_pieces(client, 3, BEGUN + bytes(500_000))
        code, words = client.status()
        assert code == Code.RESOURCE_EXHAUSTED
        assert "of 1048576 bytes; this one needs" in words
        client.call(5)
        assert client.status() == (Code.OK, "")
        client.send(Kind.RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.CANCEL))
        wait_until(lambda: gate.bodies.held_bytes == 0)


def read_responses(client, count):
    """Return the first responses of a stream."""
    data, found = b"", []
    while len(found) < count:
        data += client.read_kind(Kind.DATA)[3]
        while len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
            end = 5 + int.from_bytes(data[1:5], "big")
            found.append(service_pb2.ModelStreamInferResponse.FromString(data[5:end]))
            data = data[end:]
    return found


def test_a_request_of_a_stream_that_finds_no_room_is_told_so_and_the_stream_goes_on(serve, gate):
    with Client(serve(gate=gate)) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        send_pieces(client, 1, BEGUN + bytes(SIZE - 1000))
        client.send(Kind.HEADERS, END_HEADERS, 3, block(__path=SERVICE + "ModelStreamInfer"))
        send_pieces(client, 3, BEGUN + bytes(SIZE))
        client.send(Kind.DATA, END_STREAM, 3, INFER)
        refused, answered = read_responses(client, 2)
        assert "of 1048576 bytes; this one needs" in refused.error_message
        assert (answered.error_message, answered.infer_response.model_name) == ("", "identity")
        assert client.status() == (Code.OK, "")
        client.send(Kind.RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.CANCEL))


def test_an_inflated_request_of_a_stream_that_finds_no_room_is_told_so(serve, gate):
    packed = framed(zlib.compress(bytes(2 << 20)), 1)
    with Client(serve(gate=gate)) as client:
        headers = block(__path=SERVICE + "ModelStreamInfer", grpc_encoding="deflate")
        client.send(Kind.HEADERS, END_HEADERS, 1, headers)
        client.send(Kind.DATA, 0, 1, packed)
        client.send(Kind.DATA, END_STREAM, 1, INFER)
        refused, answered = read_responses(client, 2)
        assert "of 1048576 bytes" in refused.error_message
        assert answered.error_message == ""
        assert client.status() == (Code.OK, "")


def large(model="identity_fp32", count=150_000):
    return framed(message(model, np.zeros(count, np.float32)).SerializeToString())


def test_answers_that_nobody_takes_are_counted(serve, core):
    gate = Gate(8, Bodies(LimitOptions(bodies_mb=2)))
    with Client(serve(gate=gate)) as client:  # its window has 65,535 bytes
        send(client, 1, large())
        wait_until(lambda: core.requests and gate.bodies.held_bytes >= 600_000)
        core.wait_until_idle()
        core.requests.clear()
        send(client, 3, large(count=200_000))
        code, words = client.status()
        assert (code, "of 2097152 bytes" in words) == (Code.RESOURCE_EXHAUSTED, True)
        for stream in (0, 1):
            client.send(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20))
        assert client.status() == (Code.OK, "")
        core.requests.clear()
        wait_until(lambda: gate.bodies.held_bytes == 0)


def test_responses_of_a_stream_that_nobody_takes_are_counted(serve, core):
    gate = Gate(8, Bodies(LimitOptions(bodies_mb=2)))
    with Client(serve(gate=gate)) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        send_pieces(client, 1, large())
        wait_until(lambda: core.requests and gate.bodies.held_bytes >= 600_000)
        core.wait_until_idle()
        core.requests.clear()
        send_pieces(client, 1, large(count=200_000))
        wait_until(lambda: core.requests)
        core.wait_until_idle()
        core.requests.clear()
        for stream in (0, 1):
            client.send(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20))
        first, second = read_responses(client, 2)
        assert len(first.infer_response.raw_output_contents[0]) == 600_000
        assert "of 2097152 bytes" in second.error_message
        client.send(Kind.DATA, END_STREAM, 1)
        assert client.status() == (Code.OK, "")
        wait_until(lambda: gate.bodies.held_bytes == 0)


def test_a_large_answer_goes_out_in_parts(serve, monkeypatch):
    parts = []
    flush = Connection._flush

    def noted(self):
        parts.append(sum(map(len, self._outbox)))
        flush(self)

    monkeypatch.setattr(Connection, "_flush", noted)
    with Client(serve(), settings=struct.pack(">HI", 4, (1 << 31) - 1)) as client:
        client.send(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        send(client, 1, large(count=1_000_000))
        assert client.status() == (Code.OK, "")
    assert sum(parts) > 4_000_000
    assert max(parts) < 2 * MOST_UNSENT_BYTES


def test_a_client_that_takes_its_answer_by_the_byte_is_cut_off(serve):
    with Client(serve(limits=LimitOptions(arrive_s=0.2))) as client:
        send(client, 1, large())
        cut_off = threading.Event()

        def drip():
            while not cut_off.wait(0.02):
                client.send(Kind.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))
                client.send(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert client.read_kind(Kind.RST_STREAM)[2] == 1
        cut_off.set()
        dripping.join()


def test_what_waits_in_a_stream_is_counted(serve, core, gate):
    gate.limit = 1
    slow = framed(message("slow").SerializeToString())
    with Client(serve(gate=gate)) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        client.send(Kind.DATA, 0, 1, slow)
        wait_until(lambda: core.requests)
        empty = framed(b"") * 3000
        for _ in range(5):
            client.send(Kind.DATA, 0, 1, empty)
        wait_until(lambda: gate.bodies.held_bytes > 900_000)
        client.send(Kind.DATA, 0, 1, empty)
        assert client.status()[0] == Code.RESOURCE_EXHAUSTED
    wait_until(lambda: gate.bodies.held_bytes == 0)
    core.finish()


def test_what_a_client_left_unread_is_counted_no_more(serve, core, gate):
    gate.limit = 1
    with Client(serve(gate=gate)) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path=SERVICE + "ModelStreamInfer"))
        client.send(Kind.DATA, 0, 1, framed(message("slow").SerializeToString()))
        wait_until(lambda: core.requests)
        client.send(Kind.DATA, 0, 1, INFER * 10 + BEGUN + bytes(10_000))
        wait_until(lambda: gate.bodies.held_bytes > 10_000)
    wait_until(lambda: gate.bodies.held_bytes == 0)
    core.finish()


@pytest.mark.parametrize("limits", [{"json_mb": 1}, {"bodies_mb": 10}])
@pytest.mark.parametrize("kind", ["typed contents", "texts"])
def test_typed_contents_and_texts_count_tenfold(serve, core, limits, kind):
    data = texts(TEXTS, 60_000)
    if kind == "typed contents":
        asked = service_pb2.ModelInferRequest(model_name="identity_fp32")
        asked.inputs.add(name="INPUT0", datatype="FP32", shape=[300_000])
        asked.inputs[0].contents.fp32_contents.extend([0.5] * 300_000)
        data = framed(asked.SerializeToString())
    gate = Gate(8, Bodies(LimitOptions(**limits)))
    with Client(serve(gate=gate)) as client:
        send(client, 1, data)
        assert client.status()[0] == Code.RESOURCE_EXHAUSTED
    assert not core.requests
    assert gate.under_way == 0
    wait_until(lambda: gate.bodies.held_bytes == 0)


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
@pytest.mark.parametrize("model", ["identity_bytes", "failing_bytes", "nothing", "repeat", "identity_fp32"])
def test_what_is_answered_is_counted_no_more(serve, core, method, model):
    fails = replace(core.models["identity_bytes"], name="failing_bytes", run=core.models["failing"].run)
    core.models["failing_bytes"], core.statistics_of["failing_bytes"] = fails, ModelStatistics("", "1")
    core.loaded.add("failing_bytes")
    gate = Gate(8, Bodies(LimitOptions(bodies_mb=20)))
    with Client(serve(gate=gate)) as client:
        for stream in (1, 3):
            send(client, stream, texts(SHORT_TEXTS, 1000, model), __path=SERVICE + method)
            assert client.status() is not None
            core.wait_until_idle()
            core.requests.clear()
            wait_until(lambda: gate.bodies.held_bytes == 0)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_are_inflated_on_another_thread(client, core, threads, algorithm):
    array = np.zeros(300_000, np.float32)
    given = [tensor("INPUT0", array)]
    result = client.infer("identity_fp32", given, compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
    answers = []
    client.start_stream(
        lambda result, error: answers.append(result or error), compression_algorithm=algorithm
    )
    client.async_stream_infer("identity_fp32", given)
    wait_until(lambda: answers)
    client.stop_stream()
    np.testing.assert_array_equal(answers[0].as_numpy("OUTPUT0"), array)
    assert [name.partition("_")[0] for name in threads] == ["grpc", "grpc"]


def test_a_client_that_leaves_while_its_message_is_inflated_is_not_answered(serve, core, monkeypatch):
    has_begun, may_go_on = threading.Event(), threading.Event()
    inflate = arriving.inflate_into

    def wait(*given):
        has_begun.set()
        may_go_on.wait(5.0)
        inflate(*given)

    monkeypatch.setattr(arriving, "inflate_into", wait)
    data = framed(zlib.compress(message().SerializeToString()), 1)
    address = serve()
    with Client(address) as client:
        client.call(1, data, grpc_encoding="deflate")
        assert has_begun.wait(5.0)
        client.send(Kind.RST_STREAM, 0, 1, struct.pack(">I", ErrorCode.CANCEL))
        client.call(3)
        assert client.status() == (Code.OK, "")
        may_go_on.set()
    assert len(core.requests) == 1


@pytest.mark.parametrize("place", ["message", "shared memory"])
def test_long_texts_are_told_apart_on_another_thread(client, regions, threads, place):
    given = tensor("INPUT0", np.array([b"abcdefghijklmnop"] * 60_000, object))
    if place == "message":
        client.infer("identity_bytes", [given])
    else:
        handle = shared_memory.create_shared_memory_region("texts", "/edgert_test_texts", len(TEXTS))
        try:
            shared_memory.set_shared_memory_region(handle, [np.frombuffer(TEXTS, np.uint8)])
            regions.register("texts", "/edgert_test_texts", 0, len(TEXTS))
            given.set_shared_memory("texts", len(TEXTS))
            client.infer("identity_bytes", [given])
        finally:
            shared_memory.destroy_shared_memory_region(handle)
    assert [name.partition("_")[0] for name in threads] == ["grpc"]
