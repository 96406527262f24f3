"""What the server and its models are and have done, and model control, through tritonclient."""

from __future__ import annotations

import logging
import threading

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import edgert
from edgert.errors import ModelError
from edgert.serve.core import ResponseStatistics
from tests.unit.serve.grpc.asking import ones, tensor


def refusal(call, *arguments, **options):
    with pytest.raises(InferenceServerException) as raised:
        call(*arguments, **options)
    return raised.value.status().removeprefix("StatusCode."), raised.value.message()


@pytest.fixture
def log_level():
    logger = logging.getLogger("edgert")
    level = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(level)


def test_the_server_says_what_it_is(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("edgert", edgert.__version__)
    assert {"classification", "system_shared_memory", "model_repository"} <= set(metadata.extensions)


def test_without_shared_memory_it_is_no_extension(serve, connect):
    client = connect(serve(regions=None))
    assert "system_shared_memory" not in client.get_server_metadata().extensions
    code, _ = refusal(client.register_system_shared_memory, "a", "/a", 16)
    assert code == "UNIMPLEMENTED"
    assert not client.get_system_shared_memory_status().regions


def test_a_server_whose_models_are_missing_is_not_ready(client, core):
    core.ready = False
    assert not client.is_server_ready()


def test_models_are_ready_or_not(client):
    assert client.is_model_ready("identity")
    assert client.is_model_ready("identity", "1")
    assert not client.is_model_ready("identity", "2")
    assert not client.is_model_ready("nope")


def test_metadata_names_versions_and_tensors(client):
    metadata = client.get_model_metadata("add")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("add", ["1"], "fake")
    described = [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs]
    assert described == [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])]
    assert [each.name for each in metadata.outputs] == ["OUTPUT0", "OUTPUT1"]


def test_unknown_models_are_not_found(client):
    words = "Request for unknown model: 'nope' is not found"
    assert refusal(client.get_model_metadata, "nope") == ("NOT_FOUND", words)
    assert refusal(client.get_model_config, "nope") == ("NOT_FOUND", words)
    assert refusal(client.get_model_metadata, "identity", "7")[0] == "NOT_FOUND"
    assert refusal(client.get_model_metadata, "identity", "x")[0] == "INVALID_ARGUMENT"


def test_a_configuration_is_the_inference_servers_message(client):
    config = client.get_model_config("identity").config
    assert (config.name, config.max_batch_size) == ("identity", 8)
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [("INPUT0", 11, [16])]
    assert config.instance_group[0].kind == 2


def test_statistics_count_what_was_inferred(client, core):
    client.infer("identity", [tensor("INPUT0", ones(3))])
    core.statistics_of["identity"].response_stats = {"0": ResponseStatistics()}
    (statistics,) = client.get_inference_statistics("identity").model_stats
    assert (statistics.name, statistics.inference_count, statistics.execution_count) == ("identity", 3, 1)
    assert statistics.inference_stats.success.count == 1
    assert statistics.inference_stats.success.ns > 0
    assert [batch.batch_size for batch in statistics.batch_stats] == [3]
    assert statistics.last_inference > 0
    assert len(client.get_inference_statistics().model_stats) == len(core.models)


def test_statistics_of_unknown_models_are_refused_as_the_inference_server_does(client):
    assert refusal(client.get_inference_statistics, "nope") == (
        "INVALID_ARGUMENT",
        "requested model 'nope' is not available",
    )
    assert refusal(client.get_inference_statistics, "identity", "7") == (
        "INVALID_ARGUMENT",
        "requested model version is not available for model 'identity'",
    )


def test_models_are_loaded_and_unloaded(client, core):
    client.unload_model("identity")
    assert not client.is_model_ready("identity")
    states = {entry.name: (entry.state, entry.reason) for entry in client.get_model_repository_index().models}
    assert states["identity"] == ("UNAVAILABLE", "unloaded")
    assert states["add"] == ("READY", "")
    client.load_model("identity", config='{"a":1}', files={"file:1/model.onnx": b"\x00\xff"})
    assert client.is_model_ready("identity")
    client.unload_model("add", unload_dependents=True)
    assert core.changes == [
        ("unload", "identity", False),
        ("load", "identity", '{"a":1}', {"1/model.onnx": b"\x00\xff"}),
        ("unload", "add", True),
    ]


def test_a_load_holds_up_nobody(client, core):
    core.may_load.clear()
    loading = threading.Thread(target=client.load_model, args=("identity",))
    loading.start()
    try:
        np.testing.assert_array_equal(
            client.infer(
                "add", [tensor(name, ones().astype(np.int32)) for name in ("INPUT0", "INPUT1")]
            ).as_numpy("OUTPUT1"),
            0,
        )
        assert not core.changes
    finally:
        core.may_load.set()
        loading.join()
    assert core.changes == [("load", "identity", None, None)]


def test_many_loads_leave_room_for_long_requests(client, core):
    core.may_load.clear()
    loads = [threading.Thread(target=client.load_model, args=("identity",)) for _ in range(6)]
    for load in loads:
        load.start()
    try:
        texts = np.full(100_000, b"text", np.object_)
        found = client.infer("identity_bytes", [tensor("INPUT0", texts, "BYTES")], client_timeout=5.0)
        assert found.as_numpy("OUTPUT0").shape == texts.shape
    finally:
        core.may_load.set()
        for load in loads:
            load.join()


def test_a_long_request_that_no_model_is_run_for_is_refused(client):
    assert refusal(client.get_model_metadata, "m" * 70_000)[0] == "RESOURCE_EXHAUSTED"
    assert refusal(client.load_model, "m" * 70_000)[0] == "NOT_FOUND"


def test_what_cannot_be_loaded_is_an_error(client, core):
    assert refusal(client.load_model, "nope")[0] == "NOT_FOUND"
    core.load_failure = ModelError("the plan is for another device")
    assert refusal(client.load_model, "identity") == ("INTERNAL", "the plan is for another device")
    assert refusal(client.load_model, "identity", files={"file:1/a": b""})[0] == "INVALID_ARGUMENT"


def test_control_is_off_unless_it_is_allowed(serve, connect, core):
    client = connect(serve(control_allowed=False))
    for call in (client.load_model, client.unload_model):
        assert refusal(call, "identity") == (
            "PERMISSION_DENIED",
            "model control is off; set http.control = true in the pipeline file",
        )
    assert refusal(client.update_log_settings, {"log_verbose_level": 1})[0] == "PERMISSION_DENIED"
    assert not core.changes
    assert client.get_model_repository_index().models
    assert client.get_log_settings().settings


def test_the_log_is_shown_and_changed(client, log_level):
    settings = client.get_log_settings(as_json=True)["settings"]
    assert settings["log_info"] == {"bool_param": True}
    assert settings["log_verbose_level"] == {"uint32_param": 0}
    client.update_log_settings({"log_verbose_level": 1})
    assert logging.getLogger("edgert").level == logging.DEBUG
    client.update_log_settings({"log_verbose_level": 0, "log_info": False})
    assert logging.getLogger("edgert").level == logging.WARNING
    assert refusal(client.update_log_settings, {"log_file": "/a"})[0] == "UNIMPLEMENTED"


def test_there_is_no_tracing(client):
    assert client.get_trace_settings(as_json=True)["settings"]["trace_level"] == {"value": ["OFF"]}
    assert (
        refusal(client.update_trace_settings, settings={"trace_level": ["TIMESTAMPS"]})[0] == "UNIMPLEMENTED"
    )
    client.update_trace_settings(settings={"trace_rate": "5"})
    assert refusal(client.get_trace_settings, model_name="nope")[0] == "NOT_FOUND"


def test_cuda_shared_memory_is_refused_and_cleared_without_complaint(client):
    client.unregister_cuda_shared_memory()
    assert not client.get_cuda_shared_memory_status().regions
    assert refusal(client.register_cuda_shared_memory, "a", b"aGFuZGxl", 0, 16)[0] == "UNIMPLEMENTED"
    assert refusal(client.get_cuda_shared_memory_status, "a")[0] == "NOT_FOUND"


def test_no_other_repository_is_known(address):
    request = service_pb2.RepositoryIndexRequest(repository_name="x")
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryIndex(request)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == "'repository_name' specification is not supported"


@pytest.mark.parametrize(
    ("method", "request_type", "key", "value", "words"),
    [
        (
            "LogSettings",
            "LogSettingsRequest",
            "log_info",
            {"uint32_param": 1},
            "expect boolean for 'log_info'",
        ),
        (
            "RepositoryModelLoad",
            "RepositoryModelLoadRequest",
            "config",
            {"int64_param": 1},
            "invalid value type for load parameter 'config', expected string_param.",
        ),
        (
            "RepositoryModelLoad",
            "RepositoryModelLoadRequest",
            "file:1/a",
            {"string_param": "x"},
            "invalid value type for load parameter 'file:1/a', expected bytes_param.",
        ),
        (
            "RepositoryModelLoad",
            "RepositoryModelLoadRequest",
            "speed",
            {"bool_param": True},
            "unrecognized load parameter 'speed'.",
        ),
        (
            "RepositoryModelUnload",
            "RepositoryModelUnloadRequest",
            "unload_dependents",
            {"string_param": "x"},
            "invalid value type for 'unload_dependents' parameter, expected bool_param.",
        ),
    ],
)
def test_a_parameter_of_another_type_is_refused(address, method, request_type, key, value, words):
    request = getattr(service_pb2, request_type)()
    parameters = request.settings if method == "LogSettings" else request.parameters
    for choice, given in value.items():
        setattr(parameters[key], choice, given)
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, words)
