"""A core without an engine, and a gRPC front before it on a thread of its own."""

from __future__ import annotations

import contextlib

import pytest

from edgert.serve.front import Front
from edgert.serve.grpc.front import GrpcFront
from edgert.serve.options import GrpcOptions, LimitOptions, ServeOptions
from edgert.serve.shared_memory import SharedMemory
from edgert.stats import CopyCounts
from tests.fakes.core import FakeCore

grpcclient = pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def core():
    with FakeCore() as core:
        yield core


@pytest.fixture
def regions():
    regions = SharedMemory(CopyCounts())
    yield regions
    regions.close()


@pytest.fixture
def serve(core, regions):
    """Return a function that starts a front and returns its address."""
    with contextlib.ExitStack() as stack:

        def start(*, limits=None, tls=None, token="", control_allowed=True, regions=regions, gate=None):
            options = ServeOptions(grpc=GrpcOptions(port=0), limits=limits or LimitOptions(), tls=tls)

            def make():
                return [
                    GrpcFront(
                        core,
                        options,
                        control_allowed=control_allowed,
                        regions=regions,
                        gate=gate,
                        token=token,
                    )
                ]

            front = Front(make)
            stack.callback(front.close, 1.0)
            scheme, address = front.open()[0].split("://")
            assert scheme == "grpc"
            return address

        yield start


@pytest.fixture
def address(serve):
    return serve()


@pytest.fixture
def connect():
    """Return a function that returns a client, closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def open_client(address, **options):
            client = grpcclient.InferenceServerClient(address, **options)
            stack.callback(client.close)
            return client

        yield open_client


@pytest.fixture
def client(address, connect):
    return connect(address)
