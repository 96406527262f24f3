"""What clients of gRPC see while the front stops."""

from __future__ import annotations

import struct
import threading
import time

import grpc
import pytest

from edgert.serve.front import Front
from edgert.serve.grpc.front import GrpcFront
from edgert.serve.grpc.transport.http2 import ErrorCode, Kind
from edgert.serve.options import GrpcOptions, LimitOptions, ServeOptions
from tests.unit.serve.grpc.asking import SERVICE, WAIT_S, message, wait_until
from tests.unit.serve.grpc.http2_client import Client, framed

STOPPING = "The server is stopping."
UNAVAILABLE = 14


class Stopping:
    """A front that is stopped in the midst."""

    def __init__(self, core):
        options = ServeOptions(grpc=GrpcOptions(port=0), limits=LimitOptions(request_mb=1, json_mb=1))
        self._front = Front(lambda: [GrpcFront(core, options, control_allowed=False)])
        self.address = self._front.open()[0].removeprefix("grpc://")
        self._stopper = None

    def stop(self, timeout_s=WAIT_S):
        self._stopper = threading.Thread(target=self._front.close, args=[timeout_s])
        self._stopper.start()

    def join(self):
        self._stopper.join(2 * WAIT_S)
        assert not self._stopper.is_alive()


@pytest.fixture
def front(core):
    front = Stopping(core)
    yield front
    if front._stopper is None:
        front.stop()
    front.join()


def numbers(read):
    """Return the numbers that a frame's content begins with."""
    return struct.unpack_from(f">{min(len(read[3]), 8) // 4}I", read[3])


def test_clients_are_told_first_which_calls_are_answered(front, core):
    with Client(front.address) as client:
        client.call(data=framed(message("slow").SerializeToString()))
        wait_until(lambda: core.requests)
        front.stop()
        assert numbers(client.read_kind(Kind.GOAWAY)) == (1, ErrorCode.NO_ERROR)
        client.call(stream=3)
        reset = client.read_kind(Kind.RST_STREAM)
        assert (reset[2], *numbers(reset)) == (3, ErrorCode.REFUSED_STREAM)
        core.finish()
        assert client.status() == (0, "")
        assert numbers(client.read_kind(Kind.GOAWAY)) == (1, ErrorCode.NO_ERROR)
        assert client.read() is None


def test_a_call_on_its_way_to_an_idle_connection_is_refused_so_that_clients_retry(front):
    with Client(front.address) as client:
        client.call()
        assert client.status() == (0, "")
        front.stop()
        assert numbers(client.read_kind(Kind.GOAWAY)) == (1, ErrorCode.NO_ERROR)
        client.call(stream=3)
        assert numbers(client.read_kind(Kind.RST_STREAM)) == (ErrorCode.REFUSED_STREAM,)
        began_s = time.monotonic()
        front.join()
        assert time.monotonic() - began_s < WAIT_S / 2


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_what_does_not_end_in_time_hears_why(front, core, method):
    with Client(front.address) as client:
        data = framed(message("slow").SerializeToString())
        client.call(__path=SERVICE + method, data=data)
        wait_until(lambda: core.requests)
        front.stop(0.05)
        assert client.status() == (UNAVAILABLE, STOPPING)
        front.join()
    wait_until(lambda: core.requests[0].is_cancelled)
    core.finish()


def test_four_clients_in_a_loop_fail_only_as_unavailable(front):
    answered, codes = threading.Semaphore(0), []

    def loop():
        with grpc.insecure_channel(front.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(SERVICE + "ModelInfer")
            try:
                while True:
                    infer(message().SerializeToString(), timeout=WAIT_S)
                    answered.release()
            except grpc.RpcError as error:
                codes.append((error.code(), error.details()))

    threads = [threading.Thread(target=loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        assert answered.acquire(timeout=WAIT_S)
    front.stop()
    for thread in threads:
        thread.join(WAIT_S)
    front.join()
    assert [code for code, _ in codes] == [grpc.StatusCode.UNAVAILABLE] * 4
    assert not [words for _, words in codes if "reset" in words.lower() or "closed" in words.lower()]


def test_a_message_too_large_is_told_which_limit(front):
    with Client(front.address) as client:
        client.call(data=b"\0" + struct.pack(">I", 2 << 20))
        status, words = client.status()
        assert status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert "serve.limits.request_mb" in words
