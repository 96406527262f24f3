"""A front from its start to its stop, and grpc.health.v1."""

from __future__ import annotations

import contextlib
import threading
import time

import grpc
import pytest

from edgert.errors import ConfigError
from edgert.serve.front import Front
from edgert.serve.grpc.front import GrpcFront
from edgert.serve.options import GrpcOptions, ServeOptions
from tests.unit.serve.grpc.asking import SERVICE, message

health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
health_pb2_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

Status = health_pb2.HealthCheckResponse
WAIT_S = 5.0


@pytest.fixture
def front(core):
    front = Front(lambda: [GrpcFront(core, ServeOptions(grpc=GrpcOptions(port=0)), control_allowed=False)])
    yield front
    front.close()


@pytest.fixture
def health(address):
    with grpc.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def check(health, service=""):
    return health.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S).status


def test_an_address_in_use_is_a_fault_of_the_configuration(core, front):
    port = int(front.open()[0].rsplit(":", 1)[1])
    second = Front(
        lambda: [GrpcFront(core, ServeOptions(grpc=GrpcOptions(port=port)), control_allowed=False)]
    )
    with pytest.raises(ConfigError, match=rf"serve\.grpc: cannot listen on 127\.0\.0\.1:{port}"):
        second.open()


def test_it_listens_on_ipv6_too(core):
    options = ServeOptions(grpc=GrpcOptions(host="::1", port=0))
    front = Front(lambda: [GrpcFront(core, options, control_allowed=False)])
    try:
        address = front.open()[0]
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    try:
        assert address.startswith("grpc://[::1]:")
        with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
            channel.unary_unary(SERVICE + "ModelInfer")(message().SerializeToString(), timeout=WAIT_S)
    finally:
        front.close()


def test_what_is_under_way_is_answered_before_the_end(core, front):
    with grpc.insecure_channel(front.open()[0].removeprefix("grpc://")) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        under_way = call.future(message("slow").SerializeToString())
        _wait_for(lambda: core.requests)
        closing = threading.Thread(target=front.close, args=(WAIT_S,))
        closing.start()
        core.finish()
        assert under_way.result(WAIT_S)
        closing.join(WAIT_S)
        assert not closing.is_alive()
        with pytest.raises(grpc.RpcError):
            call(message().SerializeToString())


def test_what_does_not_end_is_ended(core, front):
    with grpc.insecure_channel(front.open()[0].removeprefix("grpc://")) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer").future(message("slow").SerializeToString())
        _wait_for(lambda: core.requests)
        front.close(0.05)
        assert call.exception(WAIT_S).code() is grpc.StatusCode.UNAVAILABLE
    assert core.requests[0].is_cancelled
    core.finish()


def test_streams_that_wait_do_not_hold_up_the_end(core, front):
    with grpc.insecure_channel(front.open()[0].removeprefix("grpc://")) as channel:
        done = threading.Event()
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(_one_and_wait(done))
        assert next(stream)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == Status.SERVING
        began_s = time.monotonic()
        front.close(WAIT_S)
        assert time.monotonic() - began_s < WAIT_S / 2
        for call in (stream, watch):
            with pytest.raises(grpc.RpcError) as raised:
                next(call)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert raised.value.details() == "The server is stopping."
        done.set()


def test_failed_calls_are_counted_by_status(core):
    fronts = []

    def make():
        fronts.append(GrpcFront(core, ServeOptions(grpc=GrpcOptions(port=0)), control_allowed=False))
        return fronts

    front = Front(make)
    with grpc.insecure_channel(front.open()[0].removeprefix("grpc://")) as channel:
        for model in ("nope", "nope", "refusing", "identity"):
            with contextlib.suppress(grpc.RpcError):
                channel.unary_unary(SERVICE + "ModelInfer")(message(model).SerializeToString())
        assert fronts[0].counts.snapshot() == {"NOT_FOUND": 2, "UNAVAILABLE": 1}
    front.close()


def test_health_is_that_of_the_server_and_of_each_model(health, core):
    assert check(health) == Status.SERVING
    assert check(health, "inference.GRPCInferenceService") == Status.SERVING
    assert check(health, "identity") == Status.SERVING
    core.ready = False
    core.unload("identity")
    assert check(health) == Status.NOT_SERVING
    assert check(health, "identity") == Status.NOT_SERVING
    with pytest.raises(grpc.RpcError) as raised:
        check(health, "nope")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watched_status_is_sent_when_it_changes(health, core):
    watch = health.Watch(health_pb2.HealthCheckRequest(service="identity"), timeout=WAIT_S)
    assert next(watch).status == Status.SERVING
    core.unload("identity")
    assert next(watch).status == Status.NOT_SERVING
    watch.cancel()


def test_an_unknown_service_may_be_watched(health):
    watch = health.Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=WAIT_S)
    assert next(watch).status == Status.SERVICE_UNKNOWN
    watch.cancel()


def _one_and_wait(done):
    yield message().SerializeToString()
    done.wait(2 * WAIT_S)


def _wait_for(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert condition()
