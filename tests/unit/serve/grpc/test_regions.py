"""Tensors in shared memory that a client registers."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.utils import InferenceServerException, shared_memory

from edgert.serve.grpc.transport.rpc import Rpc
from tests.unit.serve.grpc.asking import ones, tensor, wanted

SIZE = 256


@pytest.fixture
def region(client):
    """A registered region; its first 64 bytes are an input."""
    key = f"/edgert-test-{uuid.uuid4().hex}"
    handle = shared_memory.create_shared_memory_region("region", key, SIZE)
    try:
        shared_memory.set_shared_memory_region(handle, [ones()])
        client.register_system_shared_memory("region", key, SIZE)
        yield handle
    finally:
        client.unregister_system_shared_memory()
        shared_memory.destroy_shared_memory_region(handle)


def placed(size=64, offset=0):
    given = InferInput("INPUT0", [1, 16], "FP32")
    given.set_shared_memory("region", size, offset)
    return given


def output(size=64, offset=128):
    asked = wanted("OUTPUT0")
    asked.set_shared_memory("region", size, offset)
    return asked


def refusal(call, *arguments, **options):
    with pytest.raises(InferenceServerException) as raised:
        call(*arguments, **options)
    return raised.value.status().removeprefix("StatusCode."), raised.value.message()


def test_inputs_and_outputs_stay_in_shared_memory(client, region):
    result = client.infer("identity", [placed()], outputs=[output()])
    assert list(result.get_output("OUTPUT0").shape) == [1, 16]
    assert result.get_response().raw_output_contents == [b""]
    np.testing.assert_array_equal(
        shared_memory.get_contents_as_numpy(region, np.float32, [16], 128), ones()[0]
    )


def test_one_way_may_go_through_the_socket(client, region):
    np.testing.assert_array_equal(client.infer("identity", [placed()]).as_numpy("OUTPUT0"), ones())
    client.infer("identity", [tensor("INPUT0", ones() + 1)], outputs=[output()])
    np.testing.assert_array_equal(
        shared_memory.get_contents_as_numpy(region, np.float32, [16], 128), ones()[0] + 1
    )


def test_the_status_names_what_is_registered(client, region):
    (name, status), *others = client.get_system_shared_memory_status().regions.items()
    assert (name, status.name, status.byte_size, status.offset, others) == ("region", "region", SIZE, 0, [])
    assert status.key.startswith("/edgert-test-")
    client.unregister_system_shared_memory("region")
    assert not client.get_system_shared_memory_status().regions
    assert refusal(client.get_system_shared_memory_status, "region") == (
        "NOT_FOUND",
        "Unable to find system shared memory region: 'region'",
    )


def test_registering_what_is_not_there_is_refused(client):
    code, words = refusal(client.register_system_shared_memory, "a", "/edgert-test-none", 16)
    assert code == "INVALID_ARGUMENT"
    assert words.startswith("Unable to open shared memory region: '/edgert-test-none'")


def test_an_output_that_does_not_fit_its_place_is_refused(client, region):
    assert refusal(client.infer, "identity", [placed()], outputs=[output(size=8)]) == (
        "INVALID_ARGUMENT",
        "shared memory size specified with the request for output 'OUTPUT0' (8 bytes) should be at least 64 "
        "bytes to hold the results",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            placed(size=60),
            "input byte size mismatch for input 'INPUT0' for model 'identity'. Expected 64, got 60",
        ),
        (placed(offset=250), "Invalid offset + byte size for shared memory region: 'region'"),
        (placed(offset=-4), "Invalid offset + byte size for shared memory region: 'region'"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(client, region, given, words):
    code, found = refusal(client.infer, "identity", [given])
    assert code == "INVALID_ARGUMENT"
    assert found.endswith(words)


def test_an_unknown_region_is_not_found(client):
    words = "Unable to find shared memory region: 'region'"
    assert refusal(client.infer, "identity", [placed()]) == ("NOT_FOUND", words)
    assert refusal(client.infer, "identity", [tensor("INPUT0", ones())], outputs=[output()]) == (
        "NOT_FOUND",
        words,
    )


def test_classes_do_not_go_into_shared_memory(client, region):
    asked = wanted("SCORES", class_count=1)
    asked._output.parameters["shared_memory_region"].string_param = "region"
    asked._output.parameters["shared_memory_byte_size"].int64_param = 64
    scores = np.zeros((1, 4), np.float32)
    assert refusal(client.infer, "classify", [tensor("IN", scores)], outputs=[asked]) == (
        "INVALID_ARGUMENT",
        "output can't set both 'shared_memory_region' and 'classification'",
    )


def test_clients_elsewhere_have_no_shared_memory(client, region, monkeypatch):
    monkeypatch.setattr(Rpc, "is_local", False)
    assert refusal(client.infer, "identity", [placed()]) == (
        "UNIMPLEMENTED",
        "shared memory is off for this client",
    )
    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "is_local", False)
        assert refusal(client.register_system_shared_memory, "b", "/b", 16)[0] == "PERMISSION_DENIED"
        assert refusal(client.unregister_system_shared_memory)[0] == "PERMISSION_DENIED"
    monkeypatch.undo()
