"""The HTTP front with the clients that people have: tritonclient, its asyncio kind, and curl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.http_front import HttpSite
from tests.requirements_of import need_program

ARRAY = np.arange(32, dtype=np.float32).reshape(2, 16)


@pytest.fixture
def site():
    with HttpSite() as site:
        yield site


@pytest.fixture
def shared_item():
    """A shared memory object of 256 bytes, as its name and path."""
    path = Path("/dev/shm", f"edgert-test-{uuid.uuid4().hex}")
    path.touch(0o600)
    os.truncate(path, 256)
    yield f"/{path.name}", path
    path.unlink()


def curl(site, path, *options, **answer):
    program = need_program("curl", "curl")
    command = [program, "--silent", "--show-error", "--max-time", "10", *options, f"{site.address}{path}"]
    return subprocess.run(command, capture_output=True, check=True, **answer).stdout


class TestCurl:
    def test_an_inference_in_json(self, site):
        body = {"inputs": [{"name": "INPUT0", "shape": [2, 16], "datatype": "FP32", "data": ARRAY.tolist()}]}
        found = json.loads(curl(site, "/v2/models/identity/infer", "--data", json.dumps(body)))
        assert found["outputs"][0]["data"] == ARRAY.ravel().tolist()

    def test_a_large_file_that_waits_for_leave(self, site, tmp_path):
        array = np.random.default_rng(2).standard_normal(600_000).astype(np.float32)
        tensor = {"name": "INPUT0", "shape": [600_000], "datatype": "FP32"}
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        (tmp_path / "body").write_bytes(head + array.tobytes())
        options = ("--data-binary", f"@{tmp_path / 'body'}", "-H", "Expect: 100-continue")
        length = ("-H", f"Inference-Header-Content-Length: {len(head)}")
        found = curl(site, "/v2/models/identity_fp32/infer", *options, *length)
        assert found.endswith(array.tobytes())

    def test_an_upload_in_chunks(self, site, tmp_path):
        (tmp_path / "body").write_text('{"ready": true}')
        options = ("--data-binary", f"@{tmp_path / 'body'}", "-H", "Transfer-Encoding: chunked")
        found = json.loads(curl(site, "/v2/repository/index", *options))
        assert {"name": "identity", "version": "1", "state": "READY"} in found

    def test_the_head_alone(self, site):
        assert b"HTTP/1.1 200 OK" in curl(site, "/v2", "--head")

    def test_an_offer_of_http_2_is_passed_over(self, site):
        assert json.loads(curl(site, "/v2", "--http2"))["name"] == "edgert"


SYNC = """
import sys
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

url, key = sys.argv[1:]
array = np.arange(32, dtype=np.float32).reshape(2, 16)
with http.InferenceServerClient(url, concurrency=2) as client:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("identity")
    assert not client.is_model_ready("nope")
    assert client.get_model_metadata("identity")["inputs"][0]["shape"] == [-1, 16]
    assert client.get_server_metadata()["name"] == "edgert"

    def tensor(binary=True, values=array, datatype="FP32"):
        given = http.InferInput("INPUT0", list(values.shape), datatype)
        given.set_data_from_numpy(values, binary_data=binary)
        return given

    for binary in (True, False):
        wanted = [http.InferRequestedOutput("OUTPUT0", binary_data=binary)]
        found = client.infer("identity", [tensor(binary)], outputs=wanted, request_id="7", priority=1)
        np.testing.assert_array_equal(found.as_numpy("OUTPUT0"), array)
        assert found.get_response()["id"] == "7"
    np.testing.assert_array_equal(client.infer("identity", [tensor()]).as_numpy("OUTPUT0"), array)
    for algorithm in ("gzip", "deflate"):
        found = client.infer("identity", [tensor()], request_compression_algorithm=algorithm)
        np.testing.assert_array_equal(found.as_numpy("OUTPUT0"), array)
        found = client.infer("identity", [tensor()], response_compression_algorithm=algorithm)
        np.testing.assert_array_equal(found.as_numpy("OUTPUT0"), array)
    texts = np.array([b"a", b"", b"\\xff"], object)
    found = client.infer("identity_bytes", [tensor(values=texts, datatype="BYTES")])
    assert found.as_numpy("OUTPUT0").tolist() == texts.tolist()
    wanted = [http.InferRequestedOutput("OUTPUT0", class_count=2)]
    found = client.infer("identity", [tensor()], outputs=wanted)
    assert found.as_numpy("OUTPUT0")[0].tolist() == [b"15.000000:15", b"14.000000:14"]
    waiting = [client.async_infer("identity", [tensor()]) for _ in range(8)]
    for one in waiting:
        np.testing.assert_array_equal(one.get_result().as_numpy("OUTPUT0"), array)
    found = client.infer("identity", [tensor()], sequence_id=5, sequence_start=True, sequence_end=True)

    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    client.register_system_shared_memory("region", key, 256)
    assert client.get_system_shared_memory_status("region")[0]["byte_size"] == 256
    given = http.InferInput("INPUT0", [2, 16], "FP32")
    given.set_shared_memory("region", 128)
    wanted = http.InferRequestedOutput("OUTPUT0")
    wanted.set_shared_memory("region", 128, offset=128)
    found = client.infer("identity", [given], outputs=[wanted])
    assert "data" not in found.get_output("OUTPUT0")
    client.unregister_system_shared_memory("region")
    assert client.get_system_shared_memory_status() == []

    client.unload_model("add")
    assert not client.is_model_ready("add")
    client.load_model("add", config="{}", files={"file:1/model.onnx": b"hallo"})
    assert {"name": "add", "version": "1", "state": "READY"} in client.get_model_repository_index()
    assert client.get_inference_statistics("identity")["model_stats"][0]["inference_count"] > 10
    assert client.get_log_settings()["log_file"] == ""
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    try:
        client.infer("nope", [tensor()])
    except InferenceServerException as error:
        assert "unknown model" in error.message(), error
    else:
        raise AssertionError("nope answered")
print("all done")
"""


def test_tritonclient(site, shared_item):
    """In a process of its own: it brings gevent, whose threads stay."""
    key, path = shared_item
    path.write_bytes(ARRAY.tobytes() + bytes(128))
    url = site.address.removeprefix("http://")
    command = [sys.executable, "-c", SYNC, url, key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("all done\n", 0), done.stderr
    assert path.read_bytes()[128:] == ARRAY.tobytes()
    assert site.copies.copies.snapshot() == {"host_to_shared": 1}
    assert ("load", "add", "{}", {"1/model.onnx": b"hallo"}) in site.core.changes


ASYNC = """
import asyncio, sys
import numpy as np
import tritonclient.http.aio as http

async def main(url):
    array = np.arange(32, dtype=np.float32).reshape(2, 16)
    given = http.InferInput("INPUT0", [2, 16], "FP32")
    given.set_data_from_numpy(array)
    async with http.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        found = await asyncio.gather(*(client.infer("identity", [given]) for _ in range(32)))
        for one in found:
            np.testing.assert_array_equal(one.as_numpy("OUTPUT0"), array)

asyncio.run(main(sys.argv[1]))
print("all done")
"""


def test_tritonclient_with_asyncio(site):
    command = [sys.executable, "-c", ASYNC, site.address.removeprefix("http://")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("all done\n", 0), done.stderr


class TestSharedMemory:
    def register(self, site, key, changes=None):
        body = json.dumps({"key": key, "offset": 0, "byte_size": 256} | (changes or {})).encode()
        return site.ask("POST", "/v2/systemsharedmemory/region/region/register", body)

    def infer(self, site, *, place=None, **output):
        place = place or {"shared_memory_region": "region", "shared_memory_byte_size": 128}
        tree = {"inputs": [{"name": "INPUT0", "shape": [2, 16], "datatype": "FP32", "parameters": place}]}
        if output:
            tree["outputs"] = [{"name": "OUTPUT0", "parameters": output}]
        return site.infer("identity", tree)

    def test_an_input_is_read_in_place_and_an_output_copied_once(self, site, shared_item):
        key, path = shared_item
        path.write_bytes(ARRAY.tobytes() + bytes(128))
        assert self.register(site, key).status == 200
        answer = self.infer(
            site, shared_memory_region="region", shared_memory_offset=128, shared_memory_byte_size=128
        )
        assert answer.json()["outputs"] == [{"name": "OUTPUT0", "datatype": "FP32", "shape": [2, 16]}]
        assert path.read_bytes()[128:] == ARRAY.tobytes()
        assert site.copies.copies.snapshot() == {"host_to_shared": 1}
        assert not site.core.requests[0].inputs["INPUT0"].flags.owndata

    def test_an_output_without_room(self, site, shared_item):
        self.register(site, shared_item[0])
        answer = self.infer(site, shared_memory_region="region", shared_memory_byte_size=64)
        assert answer.status == 400
        assert answer.error == (
            "shared memory size specified with the request for output 'OUTPUT0' (64 bytes) should be at "
            "least 128 bytes to hold the results"
        )

    def test_an_object_that_became_shorter(self, site, shared_item):
        key, path = shared_item
        self.register(site, key)
        os.truncate(path, 10)
        assert self.infer(site).status == 400
        assert site.ask("GET", "/v2").status == 200

    def test_an_input_of_another_size(self, site, shared_item):
        self.register(site, shared_item[0])
        answer = self.infer(site, place={"shared_memory_region": "region", "shared_memory_byte_size": 64})
        assert "Expected 128, got 64" in answer.error

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"key": None}, "Shared memory register request has no 'key' field"),
            ({"byte_size": None}, "Shared memory register request has no 'byte_size' field"),
            ({"byte_size": 257}, "failed to register shared memory region 'region': invalid args"),
            ({"key": "/../etc/passwd"}, "Unable to open shared memory region: '/../etc/passwd'"),
            ({"key": 5}, "Unable to parse 'key': attempt to access JSON non-string as string"),
            ({"offset": -1}, "Unable to parse 'offset': attempt to access JSON non-unsigned-integer"),
        ],
    )
    def test_what_cannot_be_registered(self, site, shared_item, changes, text):
        answer = self.register(site, shared_item[0], changes)
        assert answer.status == 400
        assert answer.error.startswith(text)

    def test_a_region_needs_a_name(self, site):
        answer = site.ask("POST", "/v2/systemsharedmemory/register", b'{"key":"/a","byte_size":1}')
        assert answer.status == 400
        assert answer.error == "'region name' is necessary to register system shared memory region"
