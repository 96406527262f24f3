"""The first API over a fake core, in the bytes that its clients send."""

from __future__ import annotations

import struct
import threading
import uuid
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgert.errors import ModelError
from edgert.serve.first_api.messages import MESSAGE_CLASSES, parse_text
from edgert.serve.first_api.schema import ENUMS
from tests.fakes.http_front import HttpSite

ARRAY = np.arange(32, dtype=np.float32).reshape(2, 16)
RAW = 'batch_size: 2 input { name: "INPUT0" dims: 16 } output { name: "OUTPUT0" }'


@pytest.fixture
def site():
    with HttpSite() as site:
        yield site


@pytest.fixture
def region():
    """A shared memory object of two rows, by its key."""
    path = Path("/dev/shm") / f"edgert_{uuid.uuid4().hex}"
    path.write_bytes(bytes(128))
    yield path
    path.unlink()


def status_of(answer):
    """Return (code's name, message) of NV-Status."""
    status = parse_text("RequestStatus", answer.headers["nv-status"], "NV-Status")
    assert status.server_id == "edgert"
    assert status.request_id
    return ENUMS["RequestStatusCode"][status.code], status.msg


def infer(site, model, header, body=b"", query=""):
    return site.ask("POST", f"/api/infer/{model}{query}", body, NV_InferRequest=header)


def read(answer, *sizes):
    """Return the header and the tensors' bytes of an answer in binary form, seen to be the same twice."""
    assert answer.status == 200, status_of(answer)
    assert status_of(answer) == ("SUCCESS", "")
    tensors = []
    body = answer.body
    for size in sizes:
        tensors.append(body[:size])
        body = body[size:]
    header = MESSAGE_CLASSES["InferResponseHeader"].FromString(body)
    assert header == parse_text("InferResponseHeader", answer.headers["nv-inferresponse"], "NV-InferResponse")
    return header, tensors


class TestHealth:
    def test_ready_and_live(self, site):
        for path in ("live", "ready"):
            answer = site.ask("GET", f"/api/health/{path}")
            assert (answer.status, answer.body, status_of(answer)) == (200, b"", ("SUCCESS", ""))

    def test_not_ready_but_live(self, site):
        site.core.ready = False
        answer = site.ask("GET", "/api/health/ready")
        assert (answer.status, status_of(answer)[0]) == (503, "UNAVAILABLE")
        assert site.ask("GET", "/api/health/live").status == 200

    def test_other_methods_are_refused(self, site):
        assert site.ask("POST", "/api/health/live").status == 405
        assert site.ask("GET", "/api/infer/identity").status == 405


class TestStatus:
    def test_of_all_models_as_text_and_as_bytes(self, site):
        text, data = site.ask("GET", "/api/status"), site.ask("GET", "/api/status?format=binary")
        assert (text.headers["content-type"], data.headers["content-type"]) == (
            "text/plain",
            "application/octet-stream",
        )
        told = [
            parse_text("ServerStatus", text.body.decode(), "the body"),
            MESSAGE_CLASSES["ServerStatus"].FromString(data.body),
        ]
        assert set(told[0].model_status) == site.core.loaded
        assert 0 < told[0].uptime_ns < told[1].uptime_ns
        told[0].uptime_ns = told[1].uptime_ns
        assert told[0] == told[1]

    def test_of_one_model(self, site):
        infer(site, "identity", RAW, ARRAY.tobytes())
        site.core.wait_until_idle()
        answer = site.ask("GET", "/api/status/identity?format=text")
        status = parse_text("ServerStatus", answer.body.decode(), "the body")
        assert status_of(answer) == ("SUCCESS", "")
        assert (status.id, ENUMS["ServerReadyState"][status.ready_state]) == ("edgert", "SERVER_READY")
        assert list(status.model_status) == ["identity"]
        model = status.model_status["identity"]
        assert (model.config.name, model.config.max_batch_size, list(model.config.input[0].dims)) == (
            "identity",
            8,
            [16],
        )
        version = model.version_status[1]
        assert ENUMS["ModelReadyState"][version.ready_state] == "MODEL_READY"
        assert (version.model_inference_count, version.model_execution_count) == (2, 1)
        assert version.last_inference_timestamp_milliseconds
        assert (version.infer_stats[0].success.count, version.infer_stats[0].failed.count) == (1, 0)
        assert version.infer_stats[0].compute.total_time_ns > 0

    def test_of_a_model_that_is_not_loaded(self, site):
        site.core.loaded.discard("slow")
        site.core.ready = False
        answer = site.ask("GET", "/api/status/slow")
        status = parse_text("ServerStatus", answer.body.decode(), "the body")
        assert ENUMS["ServerReadyState"][status.ready_state] == "SERVER_INITIALIZING"
        model = status.model_status["slow"]
        assert (model.config.name, model.config.max_batch_size) == ("slow", 0)
        assert ENUMS["ModelReadyState"][model.version_status[1].ready_state] == "MODEL_UNAVAILABLE"
        assert model.version_status[1].ready_state_reason.message == "unloaded"
        assert not model.version_status[1].infer_stats

    def test_of_an_unknown_model(self, site):
        answer = site.ask("GET", "/api/status/no%0Ape")
        assert (answer.status, answer.body) == (404, b"")
        assert status_of(answer) == ("NOT_FOUND", "no status available for unknown model 'no\npe'")

    def test_the_repositorys_index(self, site):
        site.core.loaded.discard("slow")
        answer = site.ask("GET", "/api/repository/index?format=binary")
        index = MESSAGE_CLASSES["ModelRepositoryIndex"].FromString(answer.body)
        assert {model.name for model in index.models} == set(site.core.models)


class TestInfer:
    def test_a_batch(self, site):
        answer = infer(site, "identity", "id: 12 " + RAW, ARRAY.tobytes(), "?format=binary")
        header, [data] = read(answer, 128)
        assert (header.id, header.model_name, header.model_version, header.batch_size) == (
            12,
            "identity",
            3,
            2,
        )
        [output] = header.output
        assert (output.name, list(output.raw.dims), output.raw.batch_byte_size) == ("OUTPUT0", [16], 128)
        assert data == ARRAY.tobytes()
        assert site.core.requests[0].inputs["INPUT0"].shape == (2, 16)
        assert site.core.requests[0].id == "12"

    def test_the_header_behind_the_tensors_is_text_unless_asked_for(self, site):
        answer = infer(site, "identity/1", RAW, ARRAY.tobytes())
        assert answer.body[:128] == ARRAY.tobytes()
        header = parse_text("InferResponseHeader", answer.body[128:].decode(), "the body")
        assert header.model_version == 1

    def test_inputs_and_outputs_stand_one_behind_the_other(self, site):
        a, b = np.arange(16, dtype=np.int32), np.full(16, 3, np.int32)
        asked = 'batch_size: 1 input { name: "INPUT1" } input { name: "INPUT0" } output { name: "OUTPUT1" } '
        answer = infer(
            site, "add", asked + 'output { name: "OUTPUT0" }', b.tobytes() + a.tobytes(), "?format=binary"
        )
        header, [difference, total] = read(answer, 64, 64)
        assert [output.name for output in header.output] == ["OUTPUT1", "OUTPUT0"]
        assert difference == (a - b).tobytes()
        assert total == (a + b).tobytes()

    def test_classes_as_the_user_guide_asks_for_them(self, site):
        scores = np.array([[0.25, 0.5, 1e-9, 0], [2, 1, 0, 4]], np.float32)
        asked = 'batch_size: 2 input { name: "IN" byte_size: 16 } output { name: "SCORES" byte_size: 16 '
        header, _ = read(
            infer(site, "classify", asked + "cls { count: 3 } }", scores.tobytes(), "?format=binary")
        )
        [output] = header.output
        assert not output.HasField("raw")
        found = [[(best.idx, best.value, best.label) for best in row.cls] for row in output.batch_classes]
        tiny = float(np.float32(1e-9))
        assert found == [
            [(1, 0.5, "dog"), (0, 0.25, "cat"), (2, tiny, "bird")],
            [(3, 4.0, ""), (0, 2.0, "cat"), (1, 1.0, "dog")],
        ]

    @pytest.mark.parametrize("datatype", ["fp16", "bool", "uint64", "int8", "fp64"])
    def test_a_model_without_a_batch_axis(self, site, datatype):
        dtype = {"fp16": np.float16, "bool": np.bool_, "uint64": np.uint64, "int8": np.int8}.get(
            datatype, float
        )
        array = np.array([1, 0, 1], dtype)
        asked = 'batch_size: 1 input { name: "INPUT0" dims: 3 } output { name: "OUTPUT0" }'
        answer = infer(site, f"identity_{datatype}", asked, array.tobytes(), "?format=binary")
        header, [data] = read(answer, array.nbytes)
        assert (data, list(header.output[0].raw.dims)) == (array.tobytes(), [3])

    def test_text(self, site):
        data = b"\x01\x00\x00\x00a\x00\x00\x00\x00"
        asked = f'batch_size: 1 input {{ name: "INPUT0" dims: 2 batch_byte_size: {len(data)} }} '
        answer = infer(site, "identity_bytes", asked + 'output { name: "OUTPUT0" }', data, "?format=binary")
        header, [returned] = read(answer, len(data))
        assert (returned, header.output[0].raw.batch_byte_size) == (data, len(data))

    def test_a_sequence(self, site):
        sums = []
        for value, flags in ((3, 1), (4, 0), (5, 2)):
            asked = 'batch_size: 1 input { name: "IN" } output { name: "OUT" } correlation_id: 7 flags: '
            answer = infer(site, "accumulate", f"{asked}{flags}", np.int32(value).tobytes(), "?format=binary")
            sums.append(int(np.frombuffer(read(answer, 4)[1][0], np.int32)[0]))
        assert sums == [3, 7, 12]
        assert site.core.sums == {}

    @pytest.mark.parametrize(
        ("model", "header", "status", "code", "message"),
        [
            ("nope", RAW, 404, "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
            ("identity/9", RAW, 404, "NOT_FOUND", "'identity' version 9 is not found"),
            ("identity", None, 400, "INVALID_ARG", "the request has no header NV-InferRequest"),
            ("identity", "{", 400, "INVALID_ARG", "NV-InferRequest cannot be read: 1:1"),
            ("identity", RAW.replace(": 2", ": 0"), 400, "INVALID_ARG", "batch-size must be >= 1"),
            (
                "identity",
                RAW.replace(": 2", ": 9"),
                400,
                "INVALID_ARG",
                "batch-size must be <= 8 for 'identity'",
            ),
            ("identity_fp32", RAW, 400, "INVALID_ARG", "batch-size must be <= 1 for 'identity_fp32'"),
            ("identity", RAW.replace("INPUT0", "X"), 400, "INVALID_ARG", "unexpected inference input 'X'"),
            ("identity", RAW.replace("OUTPUT0", "X"), 400, "INVALID_ARG", "unexpected inference output 'X'"),
            ("identity", RAW.replace("16", "17"), 400, "INVALID_ARG", "unexpected size for input 'INPUT0'"),
            ("identity", RAW.replace("16", "8"), 400, "INVALID_ARG", "unexpected additional input data"),
            (
                "identity",
                RAW.replace("16", "-1"),
                400,
                "INVALID_ARG",
                "has sides that the request has to give",
            ),
            (
                "identity",
                RAW.replace("16", "16 batch_byte_size: 4"),
                400,
                "INVALID_ARG",
                "byte size mismatch",
            ),
            ("identity", "batch_size: 2", 400, "INVALID_ARG", "unexpected additional input data"),
            (
                "identity_fp32",
                'batch_size: 1 input { name: "INPUT0" }',
                400,
                "INVALID_ARG",
                "has sides that the request has to give in dims",
            ),
            (
                "identity_bytes",
                'batch_size: 1 input { name: "INPUT0" dims: 2 }',
                400,
                "INVALID_ARG",
                "the request has to give batch_byte_size",
            ),
            ("failing", RAW, 500, "INTERNAL", "the engine could not run"),
            ("refusing", RAW, 503, "UNAVAILABLE", "Exceeds maximum queue size"),
        ],
    )
    def test_what_goes_wrong_is_told_in_nv_status(self, site, model, header, status, code, message):
        answer = infer(site, model, header, ARRAY.tobytes())
        assert (answer.status, answer.body) == (status, b"")
        told, text = status_of(answer)
        assert told == code
        assert message in text

    def test_a_decoupled_model_is_refused(self, site):
        asked = 'batch_size: 1 input { name: "IN" } output { name: "OUT" }'
        answer = infer(site, "repeat", asked, np.int32(2).tobytes())
        assert (answer.status, status_of(answer)[0]) == (501, "UNSUPPORTED")
        assert not site.core.requests

    def test_a_client_that_leaves_cancels_its_request(self, site):
        with site.client() as client:
            client.send(
                f"POST /api/infer/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 128\r\n"
                f"NV-InferRequest:{RAW}\r\n\r\n".encode(),
                ARRAY.tobytes(),
            )
            request = site.core.held.get(timeout=10)
        with site.client() as client:
            while not request.is_cancelled:
                assert client.ask("GET", "/api/health/live").status == 200


class TestSharedMemory:
    def register(self, site, region, size=128):
        return site.ask(
            "POST", f"/api/sharedmemorycontrol/register/rows//{region.name}/0/{size}?format=binary"
        )

    def test_tensors_are_read_and_written_there(self, site, region):
        region.write_bytes(ARRAY.tobytes())
        assert status_of(self.register(site, region)) == ("SUCCESS", "")
        place = 'shared_memory { name: "rows" byte_size: 128 }'
        asked = (
            f'batch_size: 2 input {{ name: "INPUT0" dims: 16 {place} }} output {{ name: "OUTPUT0" {place} }}'
        )
        site.core.models["identity"] = _doubling(site.core.models["identity"])
        header, [] = read(infer(site, "identity", asked, b"", "?format=binary"))
        assert header.output[0].raw.batch_byte_size == 128
        assert region.read_bytes() == (ARRAY * 2).tobytes()

    def test_an_output_that_is_too_large_for_its_place_is_refused(self, site, region):
        self.register(site, region)
        asked = RAW.replace('"OUTPUT0"', '"OUTPUT0" shared_memory { name: "rows" byte_size: 100 }')
        answer = infer(site, "identity", asked, ARRAY.tobytes())
        assert status_of(answer) == (
            "INVALID_ARG",
            "shared memory size specified with the request for output 'OUTPUT0' (100 bytes) should be at "
            "least 128 bytes to hold the results",
        )
        assert region.read_bytes() == bytes(128)

    def test_regions_are_shown_and_forgotten(self, site, region):
        self.register(site, region)
        assert self.names(site) == [("rows", f"/{region.name}", 128)]
        assert site.ask("POST", "/api/sharedmemorycontrol/unregister/rows").status == 200
        assert self.names(site) == []
        self.register(site, region)
        assert site.ask("POST", "/api/sharedmemorycontrol/unregisterall").status == 200
        assert self.names(site) == []

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("register/rows/nothing/0/128", "INVALID_ARG"),
            ("register/rows/nothing/0/many", "INVALID_ARG"),
            ("register/rows/nothing/-1/128", "INVALID_ARG"),
            ("cudaregister/rows/0/128", "UNSUPPORTED"),
        ],
    )
    def test_what_cannot_be_registered(self, site, path, code):
        assert status_of(site.ask("POST", f"/api/sharedmemorycontrol/{path}"))[0] == code

    def test_a_name_is_given_once(self, site, region):
        assert status_of(self.register(site, region)) == ("SUCCESS", "")
        taken = ("ALREADY_EXISTS", "shared memory region 'rows' already in manager")
        answer = self.register(site, region)
        assert (answer.status, status_of(answer)) == (400, taken)

    @pytest.mark.parametrize("count", [10, 4000])
    def test_many_texts_do_not_hold_up_the_fronts_thread(self, site, region, count, monkeypatch):
        texts = b"".join(struct.pack("<I", 8) + b"%08d" % index for index in range(count))
        region.write_bytes(texts)
        threads, begin = [], site.core.infer

        def infer_here(request):
            threads.append(threading.current_thread().name)
            begin(request)

        monkeypatch.setattr(site.core, "infer", infer_here)
        path = f"/api/sharedmemorycontrol/register/texts/{region.name}/0/{len(texts)}"
        assert site.ask("POST", path).status == 200
        place = f'batch_byte_size: {len(texts)} shared_memory {{ name: "texts" byte_size: {len(texts)} }}'
        asked = f'batch_size: 1 input {{ name: "INPUT0" dims: {{}} {place} }} output {{ name: "OUTPUT0" }}'
        asked = asked.replace("{}", str(count))
        _, [found] = read(infer(site, "identity_bytes", asked, b"", "?format=binary"), len(texts))
        assert found == texts
        assert (threads == ["front"]) == (count == 10)
        wrong = infer(site, "identity_bytes", asked.replace(f"dims: {count}", f"dims: {count + 1}"))
        assert (wrong.status, status_of(wrong)[0]) == (400, "INVALID_ARG")

    def test_it_may_be_off(self, region):
        with HttpSite(has_regions=False) as site:
            assert status_of(self.register(site, region))[0] == "UNSUPPORTED"
            asked = RAW.replace('"OUTPUT0"', '"OUTPUT0" shared_memory { name: "rows" byte_size: 128 }')
            assert status_of(infer(site, "identity", asked, ARRAY.tobytes()))[0] == "UNSUPPORTED"
            assert self.names(site) == []
            assert site.ask("POST", "/api/sharedmemorycontrol/unregisterall").status == 200

    def names(self, site):
        answer = site.ask("GET", "/api/sharedmemorycontrol/status?format=binary")
        status = MESSAGE_CLASSES["SharedMemoryStatus"].FromString(answer.body)
        return [
            (region.name, region.system_shared_memory.shared_memory_key, region.byte_size)
            for region in status.shared_memory_region
        ]


class TestControl:
    def test_load_and_unload(self, site):
        assert status_of(site.ask("POST", "/api/modelcontrol/unload/slow")) == ("SUCCESS", "")
        assert status_of(site.ask("POST", "/api/modelcontrol/load/slow")) == ("SUCCESS", "")
        assert site.core.changes == [("unload", "slow", False), ("load", "slow", None, None)]

    def test_what_fails_is_told(self, site):
        answer = site.ask("POST", "/api/modelcontrol/load/nope")
        assert status_of(answer) == ("NOT_FOUND", "failed to load 'nope', no such model in the store")
        site.core.load_failure = ModelError("the engine is of another version")
        answer = site.ask("POST", "/api/modelcontrol/load/slow")
        assert (answer.status, status_of(answer)[0]) == (500, "INTERNAL")

    def test_it_is_off_unless_allowed(self):
        with HttpSite(control=False) as site:
            assert site.ask("POST", "/api/modelcontrol/load/slow").status == 403
            assert site.core.changes == []


def _doubling(model):
    def run(core, request):
        yield {"OUTPUT0": request.inputs["INPUT0"] * 2}, True

    return msgspec.structs.replace(model, run=run)
