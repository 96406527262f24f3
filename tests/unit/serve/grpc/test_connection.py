"""HTTP/2 as no client of gRPC writes it: in pieces, padded, blocked, malformed."""

from __future__ import annotations

import random
import struct
import time
import zlib

import numpy as np
import pytest

from edgert.frames.request import InferResponse
from edgert.serve.grpc.transport.connection import Connection
from edgert.serve.grpc.transport.http2 import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITIZED,
    ErrorCode,
    Kind,
    frame,
)
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.transport.status import Code
from edgert.serve.options import LimitOptions
from tests.unit.serve.grpc.asking import SERVICE, message, ones, tensor
from tests.unit.serve.grpc.http2_client import INFER, Client, block, framed, literal

NUMBER = struct.Struct(">I")
BEGIN = PREFACE + frame(Kind.SETTINGS, 0, 0)


def waited_for(condition, timeout_s=5.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()


def setting(number, value):
    return struct.pack(">HI", number, value)


def test_a_call_in_single_bytes_is_answered(address):
    with Client(address, preface=b"") as client:
        data = PREFACE + frame(Kind.SETTINGS, 0, 0)
        data += frame(Kind.HEADERS, END_HEADERS, 1, block()) + frame(Kind.DATA, END_STREAM, 1, INFER)
        for index in range(len(data)):
            client.send_bytes(data[index : index + 1])
        assert client.status() == (Code.OK, "")


def test_padding_priority_and_continuation_are_taken_off(address):
    headers = block()
    with Client(address) as client:
        first = b"\x04" + bytes(5) + headers[:10] + bytes(4)
        client.send(Kind.HEADERS, PADDED | PRIORITIZED, 1, first)
        client.send(Kind.CONTINUATION, 0, 1, headers[10:20])
        client.send(Kind.CONTINUATION, END_HEADERS, 1, headers[20:])
        client.send(Kind.DATA, PADDED, 1, b"\x03" + INFER[:7] + bytes(3))
        client.send(Kind.DATA, END_STREAM, 1, INFER[7:])
        assert client.status() == (Code.OK, "")


def test_calls_are_answered_side_by_side(address, core):
    with Client(address) as client:
        client.call(1, framed(message("slow").SerializeToString()))
        client.call(3)
        assert client.read_kind(Kind.DATA)[2] == 3
        core.finish()
        assert client.read_kind(Kind.DATA)[2] == 1


def test_a_ping_is_answered_and_settings_are_acknowledged(address):
    with Client(address) as client:
        client.send(Kind.PING, 0, 0, b"12345678")
        seen = [client.read() for _ in range(4)]
        assert (Kind.SETTINGS, ACK, 0, b"") in seen
        assert (Kind.PING, ACK, 0, b"12345678") in seen


def test_a_response_waits_for_the_clients_window(address):
    array = np.arange(1000, dtype=np.float32)
    with Client(address, settings=setting(4, 1000)) as client:
        client.call(data=framed(message("identity_fp32", array).SerializeToString()))
        came = len(client.read_kind(Kind.DATA)[3])
        assert came == 1000
        client.send(Kind.PING, 0, 0, b"12345678")
        assert client.read()[0] == Kind.PING  # nothing else comes
        client.send(Kind.SETTINGS, 0, 0, setting(4, 2000))
        came += len(client.read_kind(Kind.DATA)[3])
        assert came == 2000
        client.send(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(1 << 20))
        assert client.status() == (Code.OK, "")


def test_a_response_waits_for_the_connections_window(address):
    array = np.zeros(20_000, np.float32)
    with Client(address, settings=setting(4, 1 << 20)) as client:
        client.call(data=framed(message("identity_fp32", np.zeros(10, np.float32)).SerializeToString()))
        assert client.status()[0] == Code.OK
        client.send(Kind.HEADERS, END_HEADERS, 3, block())
        data = framed(message("identity_fp32", array).SerializeToString())
        for start in range(0, len(data), 10_000):
            client.send(
                Kind.DATA, END_STREAM * (start + 10_000 >= len(data)), 3, data[start : start + 10_000]
            )
        client.send(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1 << 20))
        assert client.status() == (Code.OK, "")


def test_a_window_of_one_call_looks_at_no_other(address, core, monkeypatch):
    pumped = []
    pump = Rpc.pump
    monkeypatch.setattr(Rpc, "pump", lambda rpc: (pumped.append(rpc.stream), pump(rpc)))
    with Client(address) as client:
        for stream in (1, 3):
            client.call(stream, framed(message("slow").SerializeToString()))
        assert waited_for(lambda: len(core.requests) == 2)
        pumped.clear()
        for stream in (0, 1, 99):
            client.send(Kind.WINDOW_UPDATE, 0, stream, NUMBER.pack(1))
        client.send(Kind.SETTINGS, 0, 0, setting(5, 20_000))
        client.send(Kind.PING, 0, 0, b"12345678")
        while client.read()[1:] != (ACK, 0, b"12345678"):
            pass
        assert pumped == [1]
    core.finish()
    core.finish()


def test_a_client_may_send_more_than_its_windows_in_one_call(address):
    data = framed(message("identity_fp32", np.zeros(200_000, np.float32)).SerializeToString())
    with Client(address, settings=setting(4, 1 << 22)) as client:
        client.send(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1 << 22))
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        for start in range(0, len(data), 16_000):
            client.send(
                Kind.DATA, END_STREAM * (start + 16_000 >= len(data)), 1, data[start : start + 16_000]
            )
        assert client.read_kind(Kind.WINDOW_UPDATE)[2] == 0
        assert client.status() == (Code.OK, "")


def test_a_reset_cancels_the_call(address, core):
    with Client(address) as client:
        client.call(1, framed(message("slow").SerializeToString()))
        assert waited_for(lambda: core.requests)
        client.send(Kind.RST_STREAM, 0, 1, NUMBER.pack(ErrorCode.CANCEL))
        assert waited_for(lambda: core.requests[0].is_cancelled)
        core.finish()
        client.call(3)
        assert client.read_kind(Kind.DATA)[2] == 3


def test_a_connection_that_is_lost_cancels_its_calls(address, core):
    with Client(address) as client:
        client.call(1, framed(message("slow").SerializeToString()))
        assert waited_for(lambda: core.requests)
    assert waited_for(lambda: core.requests[0].is_cancelled)
    core.finish()


@pytest.mark.parametrize(
    ("data", "changes", "status", "words"),
    [
        (INFER, {"__method": "GET"}, -1, "405"),
        (INFER, {"content_type": "text/plain"}, -1, "415"),
        (INFER, {"__path": None}, Code.UNIMPLEMENTED, "unknown method "),
        (INFER, {"grpc_timeout": "soon"}, Code.INVALID_ARGUMENT, "grpc-timeout is malformed"),
        (INFER, {"grpc_encoding": "br"}, Code.UNIMPLEMENTED, "Compression algorithm 'br' is not supported"),
        (b"", {}, Code.INVALID_ARGUMENT, "a call has to have one message"),
        (INFER + INFER, {}, Code.INVALID_ARGUMENT, "a call has to have one message"),
        (INFER[:-1], {}, Code.INVALID_ARGUMENT, "a call has to have one message"),
        (
            framed(b"x", 1),
            {},
            Code.INVALID_ARGUMENT,
            "a message says that it is compressed, its call does not",
        ),
        (
            framed(b"x" * 20, 1),
            {"grpc_encoding": "gzip"},
            Code.INVALID_ARGUMENT,
            "what came is no gzip: Error -3 while decompressing data: incorrect header check",
        ),
        (
            framed(zlib.compress(b"x")[:-2], 1),
            {"grpc_encoding": "deflate"},
            Code.INVALID_ARGUMENT,
            "what came is not one whole deflate stream",
        ),
        (
            framed(zlib.compress(bytes(1 << 21)), 1),
            {"grpc_encoding": "deflate"},
            Code.RESOURCE_EXHAUSTED,
            "a request may have 1048576 bytes (serve.limits.request_mb); more came",
        ),
        (
            struct.pack(">BI", 0, 1 << 31),
            {},
            Code.RESOURCE_EXHAUSTED,
            "Received message larger than max (2147483648 vs. 1048576: serve.limits.request_mb)",
        ),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_the_next_is_answered(serve, data, changes, status, words):
    with Client(serve(limits=LimitOptions(request_mb=1))) as client:
        client.call(1, data, **changes)
        assert client.status() == (status, words)
        client.call(3)
        assert client.status() == (Code.OK, "")


def test_a_deadline_cancels_the_call(serve, core):
    with Client(serve(limits=LimitOptions(answer_s=1.0))) as client:
        client.call(1, framed(message("slow").SerializeToString()), grpc_timeout="100m")
        assert client.status() == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert core.requests[0].is_cancelled
    core.finish()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
        (BEGIN + b"\xff" * 100, ErrorCode.FRAME_SIZE_ERROR),
        (BEGIN + frame(Kind.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (BEGIN + frame(Kind.HEADERS, END_HEADERS, 2, block()), ErrorCode.PROTOCOL_ERROR),
        (
            BEGIN + frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
            ErrorCode.COMPRESSION_ERROR,
        ),
        (BEGIN + frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), ErrorCode.PROTOCOL_ERROR),
        (BEGIN + frame(Kind.HEADERS, END_HEADERS | PRIORITIZED, 1, b"ab"), ErrorCode.FRAME_SIZE_ERROR),
        (BEGIN + frame(Kind.CONTINUATION, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (
            BEGIN + frame(Kind.HEADERS, 0, 1, b"x") + frame(Kind.PING, 0, 0, bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (BEGIN + frame(Kind.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (BEGIN + frame(Kind.SETTINGS, 0, 0, setting(4, 1 << 31)), ErrorCode.FLOW_CONTROL_ERROR),
        (BEGIN + frame(Kind.SETTINGS, 0, 0, setting(5, 1)), ErrorCode.PROTOCOL_ERROR),
        (BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(0)), ErrorCode.FLOW_CONTROL_ERROR),
        (BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack((1 << 31) - 1)), ErrorCode.FLOW_CONTROL_ERROR),
        (BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
        (BEGIN + frame(Kind.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
        (BEGIN + frame(Kind.PUSH_PROMISE, 0, 1, b"1234"), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_is_no_http2_ends_the_connection(address, data, code):
    with Client(address, preface=b"") as client:
        client.send_bytes(data)
        assert client.error() == code
    with Client(address) as client:
        client.call()
        assert client.status() == (Code.OK, "")


@pytest.mark.parametrize("kind", [Kind.PING, Kind.SETTINGS, Kind.PRIORITY])
def test_frames_that_bring_nothing_forward_end_the_connection(address, kind):
    content = bytes(8) if kind == Kind.PING else b""
    with Client(address) as client:
        try:
            for _ in range(110):
                client.send_bytes(frame(kind, 0, 0, content) * 100)
        except ConnectionError:  # it was ended while more was sent
            return
        assert client.error() in (ErrorCode.ENHANCE_YOUR_CALM, None)


def test_headers_without_end_are_over_the_limit(serve):
    with Client(serve(limits=LimitOptions(header_kb=1))) as client:
        client.send(Kind.HEADERS, 0, 1, block())
        client.send_bytes(frame(Kind.CONTINUATION, 0, 1, bytes(500)) * 3)
        assert client.error() == ErrorCode.ENHANCE_YOUR_CALM


def test_headers_that_unfold_to_too_much_are_over_the_limit(serve):
    with Client(serve(limits=LimitOptions(header_kb=1))) as client:
        entry = b"\x40\x01a" + bytes((100,)) + b"b" * 100  # goes into the table
        client.send(Kind.HEADERS, END_HEADERS, 1, block() + entry + b"\xbe" * 20)
        assert client.status() == (Code.RESOURCE_EXHAUSTED, "the call's headers are over the limit")


def test_more_headers_than_allowed_end_their_call_and_no_other(address):
    with Client(address) as client:
        more = b"".join(literal(f"k{index}", "v") for index in range(70))
        client.send(Kind.HEADERS, END_HEADERS, 1, block() + more)
        client.send(Kind.DATA, END_STREAM, 1, INFER)
        client.call(3)
        assert client.status() == (Code.RESOURCE_EXHAUSTED, "the call's headers are over the limit")
        assert client.status() == (Code.OK, "")


@pytest.mark.parametrize(
    "content_type", ["application/grpc+proto", "application/grpc; x=y", "Application/gRPC"]
)
def test_content_types_of_grpc(address, content_type):
    with Client(address) as client:
        client.call(content_type=content_type)
        assert client.status() == (Code.OK, "")


@pytest.mark.parametrize(
    "content_type", ["application/grpcfoo", "application/grpc-web", "text/application/grpc"]
)
def test_content_types_of_something_else(address, content_type):
    with Client(address) as client:
        client.call(content_type=content_type)
        assert client.status() == (-1, "415")


@pytest.mark.parametrize(
    "first",
    [
        frame(Kind.HEADERS, END_HEADERS, 1, block()),
        frame(Kind.DATA, 0, 1, b"x"),
        frame(Kind.PING, 0, 0, bytes(8)),
        frame(Kind.SETTINGS, ACK, 0),
    ],
)
def test_the_first_frame_is_settings(address, first):
    with Client(address, preface=b"") as client:
        client.send_bytes(PREFACE + first + frame(Kind.SETTINGS, 0, 0))
        assert client.error() == ErrorCode.PROTOCOL_ERROR


def test_a_connection_that_has_ended_ends_though_its_client_reads_nothing(serve):
    address = serve(limits=LimitOptions(arrive_s=0.2))
    with Client(address, settings=setting(4, 1 << 30)) as client:
        client.send(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1 << 30))
        array = np.zeros(1_000_000, np.float32)
        whole = framed(message("identity_fp32", array).SerializeToString())
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        for start in range(0, len(whole), 16_000):
            client.send(
                Kind.DATA, END_STREAM * (start + 16_000 >= len(whole)), 1, whole[start : start + 16_000]
            )
        assert waited_for(lambda: Connection.live.count == 1)
        client.send(Kind.DATA, 0, 0, b"x")  # an error of the connection
        assert waited_for(lambda: Connection.live.count == 0)


def test_more_calls_at_once_than_allowed_are_put_off(serve, core):
    with Client(serve(limits=LimitOptions(requests=1))) as client:
        client.call(1, framed(message("slow").SerializeToString()))
        assert waited_for(lambda: core.requests)
        client.call(3)
        assert client.read_kind(Kind.RST_STREAM)[2:] == (3, NUMBER.pack(ErrorCode.REFUSED_STREAM))
        core.finish()
        assert client.status() == (Code.OK, "")


def test_a_message_that_does_not_arrive_is_given_up(serve):
    with Client(serve(limits=LimitOptions(arrive_s=0.1))) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        client.send(Kind.DATA, 0, 1, INFER[:10])
        assert client.status() == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")


def test_a_message_that_drips_is_given_up(serve):
    with Client(serve(limits=LimitOptions(arrive_s=0.2))) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block())
        began_s = time.monotonic()
        for index in range(len(INFER) - 1):
            client.send(Kind.DATA, 0, 1, INFER[index : index + 1])
            time.sleep(0.01)
        assert client.status() == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        assert time.monotonic() - began_s < 3.0


def test_a_client_that_says_nothing_is_cut_off(serve):
    with Client(serve(limits=LimitOptions(arrive_s=0.1)), preface=b"") as client:
        assert client.error() is None


def test_an_idle_connection_is_closed(serve):
    with Client(serve(limits=LimitOptions(idle_s=0.1))) as client:
        assert client.error() == ErrorCode.NO_ERROR


def test_a_client_that_is_silent_during_a_call_has_to_answer_a_ping(serve, core):
    with Client(serve(limits=LimitOptions(idle_s=0.1, arrive_s=0.2))) as client:
        client.call(1, framed(message("slow").SerializeToString()))
        assert client.read_kind(Kind.PING) is not None
        assert client.error() is None
    assert core.requests[0].is_cancelled
    core.finish()


def test_a_client_that_takes_no_response_is_cut_off(serve):
    with Client(serve(limits=LimitOptions(arrive_s=0.1)), settings=setting(4, 10)) as client:
        client.call()
        reset = client.read_kind(Kind.RST_STREAM)
        assert reset[2:] == (1, NUMBER.pack(ErrorCode.CANCEL))


def test_a_connection_too_many_is_refused(serve):
    address = serve(limits=LimitOptions(connections=1))
    with Client(address) as first:
        first.call()
        assert first.status() == (Code.OK, "")
        with Client(address) as second:
            assert second.error() == ErrorCode.ENHANCE_YOUR_CALM
        first.call(3)
        assert first.status() == (Code.OK, "")


def test_frames_of_calls_that_have_ended_are_ignored(address):
    with Client(address) as client:
        client.send(Kind.HEADERS, END_HEADERS, 1, block(__path="/nope"))
        assert client.status()[0] == Code.UNIMPLEMENTED
        client.send(Kind.DATA, 0, 1, INFER)
        client.send(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block())
        client.send(Kind.RST_STREAM, 0, 1, NUMBER.pack(0))
        client.send(Kind.WINDOW_UPDATE, 0, 1, NUMBER.pack(5))
        client.call(3)
        assert client.status() == (Code.OK, "")


def test_ten_thousand_malformed_calls_harm_nobody(address, client):
    """Bytes of whole conversations are changed at random; good requests go on all the while."""
    generator = random.Random(7)
    whole = PREFACE + frame(Kind.SETTINGS, 0, 0)
    for stream in range(1, 41, 2):
        whole += frame(Kind.HEADERS, END_HEADERS, stream, block())
        whole += frame(Kind.DATA, END_STREAM, stream, INFER)
    for attempt in range(500):
        data = bytearray(whole)
        for _ in range(20):
            data[generator.randrange(len(PREFACE) if attempt % 10 else 0, len(data))] = generator.randrange(
                256
            )
        with Client(address, preface=b"") as bad:
            try:
                bad.send_bytes(bytes(data))
            except ConnectionError:  # it was ended while more was sent
                continue
        if attempt % 50 == 0:
            array = client.infer("identity", [tensor("INPUT0", ones())]).as_numpy("OUTPUT0")
            np.testing.assert_array_equal(array, ones())
    assert waited_for(lambda: Connection.live.count <= 1)


def test_malformed_messages_are_each_answered(address, core):
    """Bytes of good messages are changed, cut or doubled; whatever it is, a status comes, and no fault."""
    generator = random.Random(11)
    good = [message(), message("repeat", np.array([2], np.int32), name="IN"), message("add")]
    good[0].parameters["sequence_id"].int64_param = 3
    good[1].outputs.add(name="OUT").parameters["classification"].int64_param = 1
    good[2].inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    wholes = [request.SerializeToString() for request in good]
    statuses = set()
    with Client(address, settings=setting(4, 1 << 20)) as client:
        client.send(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1 << 30))
        for stream in range(1, 4001, 2):
            data = bytearray(generator.choice(wholes))
            for _ in range(generator.randrange(1, 4)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            del data[generator.randrange(len(data)) :: generator.choice([1, 1000, 1000])]
            client.call(stream, framed(bytes(data)))
            statuses.add(client.status()[0])
    assert Code.INTERNAL not in statuses
    assert {Code.INVALID_ARGUMENT, Code.NOT_FOUND} <= statuses


def answer_here(core, monkeypatch):
    """Let the core answer before `infer` returns."""

    def infer(request):
        outputs = {"OUTPUT0": request.inputs["INPUT0"]}
        request.responder.respond(InferResponse(request.model, 1, request.id, outputs=outputs))

    monkeypatch.setattr(core, "infer", infer)


def test_calls_that_come_together_are_answered_in_one_piece(core, serve, monkeypatch):
    answer_here(core, monkeypatch)
    ends = []
    flush = Connection._flush

    def counted(self):
        ends.append(sum(is_end(piece) for piece in self._outbox))
        flush(self)

    monkeypatch.setattr(Connection, "_flush", counted)
    with Client(serve()) as client:
        client.send_bytes(
            b"".join(
                frame(Kind.HEADERS, END_HEADERS, stream, block())
                + frame(Kind.DATA, END_STREAM, stream, INFER)
                for stream in (1, 3, 5)
            )
        )
        assert [client.status() for _ in range(3)] == [(Code.OK, "")] * 3
    assert [count for count in ends if count] == [3]


def is_end(piece):
    """Say whether it is a frame of HEADERS that ends a call."""
    return piece[3] == Kind.HEADERS and bool(piece[4] & END_STREAM)


def test_settings_that_change_and_change_again_go_through_the_calls_once(serve, monkeypatch):
    pumped = []
    pump = Rpc.pump
    monkeypatch.setattr(Rpc, "pump", lambda self: (pumped.append(self), pump(self))[1])
    with Client(serve()) as client:
        for stream in range(1, 101, 2):
            client.send(Kind.HEADERS, END_HEADERS, stream, block(__path=SERVICE + "ModelStreamInfer"))
        settings = [frame(Kind.SETTINGS, 0, 0, setting(4, 65_535 + index % 2)) for index in range(2000)]
        client.send_bytes(b"".join(settings) + frame(Kind.PING, 0, 0, bytes(8)))
        while (read := client.read_kind(Kind.PING)) is not None and not read[1] & ACK:
            pass
    assert len(pumped) < 1000
