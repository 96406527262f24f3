"""Who may call: tokens, certificates, sizes."""

from __future__ import annotations

import contextlib
import socket

import grpc
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from edgert.errors import ConfigError
from edgert.serve.options import LimitOptions, TlsOptions
from tests.fakes.broker import Certificates
from tests.unit.serve.grpc.asking import SERVICE, message, ones, tensor

TOKEN = "s3cret"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def infer(address, metadata=(), credentials=None):
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        return call(message().SerializeToString(), metadata=metadata, timeout=5)


@pytest.mark.parametrize(
    "given",
    [(), (("authorization", TOKEN),), (("authorization", "Bearer other"),), (("x", f"Bearer {TOKEN}"),)],
)
def test_without_its_token_the_server_answers_nothing(serve, core, given):
    address = serve(token=TOKEN)
    with pytest.raises(grpc.RpcError) as raised:
        infer(address, given)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert TOKEN not in raised.value.details()
    assert not core.requests


@pytest.mark.parametrize("word", ["Bearer", "bearer"])
def test_with_the_token_it_answers(serve, core, word):
    infer(serve(token=TOKEN), (("authorization", f"{word} {TOKEN}"),))
    assert len(core.requests) == 1


def test_a_stream_needs_the_token_too(serve):
    with grpc.insecure_channel(serve(token=TOKEN)) as channel:
        call = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([message().SerializeToString()]))
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_connections_count_before_their_handshake(serve, certificates):
    certificate, key = certificates.server
    options = TlsOptions(certificate=str(certificate), key=str(key))
    host, port = serve(tls=options, limits=LimitOptions(connections=1)).rsplit(":", 1)
    with contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(socket.create_connection((host, int(port)), 5))

        silent = [connect() for _ in range(17)]
        assert connect().recv(1) == b""
        silent[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[0].recv(1)


def test_tls_is_spoken(serve, connect, certificates):
    certificate, key = certificates.server
    address = serve(tls=TlsOptions(certificate=str(certificate), key=str(key)))
    client = connect(address, ssl=True, root_certificates=str(certificates.ca))
    array = np.arange(500_000, dtype=np.float32)
    np.testing.assert_array_equal(
        client.infer("identity_fp32", [tensor("INPUT0", array)]).as_numpy("OUTPUT0"), array
    )
    with pytest.raises(grpc.RpcError):
        infer(address)


def test_a_client_has_to_show_its_certificate(serve, core, certificates):
    certificate, key = certificates.server
    tls = TlsOptions(certificate=str(certificate), key=str(key), client_ca=str(certificates.ca))
    address, ca = serve(tls=tls), certificates.ca.read_bytes()
    own_certificate, own_key = certificates.client
    infer(
        address,
        credentials=grpc.ssl_channel_credentials(ca, own_key.read_bytes(), own_certificate.read_bytes()),
    )
    assert len(core.requests) == 1
    with pytest.raises(grpc.RpcError) as raised:
        infer(address, credentials=grpc.ssl_channel_credentials(ca))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(core.requests) == 1


def test_certificates_that_cannot_be_read_are_a_fault_of_the_configuration(serve, tmp_path):
    with pytest.raises(ConfigError, match="certificate"):
        serve(tls=TlsOptions(certificate=str(tmp_path / "none.pem"), key=str(tmp_path / "none.key")))


def test_a_message_over_the_limit_is_refused_and_one_at_it_is_not(serve, connect):
    client = connect(serve(limits=LimitOptions(request_mb=1)))
    most = np.zeros(((1 << 20) - 100) // 4, np.float32)
    client.infer("identity_fp32", [tensor("INPUT0", most)])
    with pytest.raises(InferenceServerException) as raised:
        client.infer("identity_fp32", [tensor("INPUT0", np.zeros(1 << 18, np.float32))])
    assert raised.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert "larger than max" in raised.value.message()
    client.infer("identity", [tensor("INPUT0", ones())])
