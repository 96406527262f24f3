"""Shared memory over HTTP: who may use it, and how much of it is copied."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from edgert.serve.http import site as http_site
from tests.fakes.http_front import HttpSite, binary_request

ARRAY = np.arange(16, dtype=np.float32).reshape(1, 16)
MB = 1 << 20
SHM = Path("/dev/shm")


@pytest.fixture
def site():
    with HttpSite(limits={"request_mb": 1, "bodies_mb": 16}) as site:
        yield site


@pytest.fixture
def region(site):
    """A sparse object that all may write, registered as `r`: its content is copied."""
    path = SHM / f"edgert-test-{uuid.uuid4().hex}"
    path.touch()
    os.truncate(path, 4 * MB)
    path.chmod(0o666)
    site.regions.register("r", path.name, 0, 4 * MB)
    yield path
    path.unlink()


def place(size, offset=0):
    return {
        "shared_memory_region": "r",
        "shared_memory_byte_size": size,
        "shared_memory_offset": offset,
    }


def shared(name="INPUT0", size=64, shape=(1, 16)):
    return {"name": name, "datatype": "FP32", "shape": list(shape), "parameters": place(size)}


def test_shared_memory_is_for_clients_on_this_machine(site, region, monkeypatch):
    tree = {"inputs": [shared()]}
    assert site.infer("identity", tree).status == 200
    monkeypatch.setattr(http_site, "is_local", lambda _: False)
    answer = site.infer("identity", tree)
    assert (answer.status, "server's machine" in answer.error) == (501, True)
    head = {"outputs": [{"name": "OUTPUT0", "parameters": place(64)}]}
    with site.client() as client:
        client.send(binary_request("identity", ARRAY, head=head))
        assert client.answer().status == 501
    assert not any(region.read_bytes())
    assert site.ask("GET", "/v2/systemsharedmemory/status").status == 403
    assert site.ask("GET", "/v2/systemsharedmemory/region/r/status").status == 403


def test_a_request_copies_no_more_than_it_may_have(site, region):
    tensors = [shared(f"INPUT{index}", MB // 2, (1, MB // 8)) for index in range(3)]
    answer = site.infer("identity", {"inputs": tensors})
    assert (answer.status, str(3 * MB // 2) in answer.error) == (413, True)
    assert not site.copies.bytes["shared_to_host"]


def test_inputs_that_nobody_knows_are_not_copied(site, region):
    answer = site.infer("identity", {"inputs": [shared(), shared("INPUT7")]})
    assert (answer.status, "INPUT7" in answer.error) == (400, True)
    assert not site.copies.bytes["shared_to_host"]


def test_copies_count_among_the_bodies(site, region):
    body = json.dumps({"inputs": [shared(size=MB, shape=(1, MB // 4))]}).encode()
    site.gate.bodies.take(16 * MB - 1000)
    answer = site.ask("POST", "/v2/models/identity/infer", body)
    assert answer.status == 503
    site.gate.bodies.free(16 * MB - 1000)
    assert site.ask("POST", "/v2/models/identity/infer", body).status != 503
