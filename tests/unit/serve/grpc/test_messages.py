"""The messages are those of the Inference Server and of the health protocol, field by field."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from edgert.serve.grpc.messages import HEALTH_MESSAGES, INFERENCE_MESSAGES
from edgert.serve.grpc.schema import ENUMS

service_pb2 = pytest.importorskip("tritonclient.grpc").service_pb2

# Newer than the client that tests use: (message, field) and whole messages.
NEWER_FIELDS = {("ModelStatistics", "response_stats")}
NEWER = {"InferResponseStatistics", "ModelStatistics.ResponseStatsEntry"}
# Kept as bytes, which is the same on the wire.
AS_BYTES = {("ModelConfigResponse", "config")}


def described(descriptor):
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    return dict(walk(proto, proto.name))


def walk(proto, path):
    yield path, fields(proto, path)
    for nested in proto.nested_type:
        yield from walk(nested, f"{path}.{nested.name}")


def fields(proto, path):
    return {
        field.name: (
            field.number,
            "bytes" if (path, field.name) in AS_BYTES else (field.type, field.type_name),
            field.label,
            proto.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "",
            proto.options.map_entry,
        )
        for field in proto.field
    }


def all_described(descriptors):
    return {path: found for descriptor in descriptors for path, found in described(descriptor).items()}


def ours(messages):
    return all_described(cls.DESCRIPTOR for name, cls in messages.items() if "." not in name)


def test_inference_messages_are_the_clients_in_both_directions():
    theirs = all_described(service_pb2.DESCRIPTOR.message_types_by_name.values())
    mine = ours(INFERENCE_MESSAGES)
    assert {path for path in mine if path not in theirs} <= NEWER
    for message, field in NEWER_FIELDS:
        if field not in theirs[message]:
            del mine[message][field]
    assert {path: mine[path] for path in theirs} == theirs


def test_response_statistics_have_the_numbers_of_newer_servers():
    statistics = ours(INFERENCE_MESSAGES)["InferResponseStatistics"]
    assert [(number, name) for name, (number, *_) in statistics.items()] == [
        (1, "compute_infer"),
        (2, "compute_output"),
        (3, "success"),
        (4, "fail"),
        (5, "empty_response"),
        (6, "cancel"),
    ]
    assert INFERENCE_MESSAGES["ModelStatistics"].DESCRIPTOR.fields_by_name["response_stats"].number == 9


def test_health_messages_are_those_of_the_health_protocol():
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    theirs = health_pb2.DESCRIPTOR.message_types_by_name
    assert ours(HEALTH_MESSAGES) == all_described(theirs[name] for name in HEALTH_MESSAGES)
    status = theirs["HealthCheckResponse"].enum_types_by_name["ServingStatus"]
    values = [(value.name, value.number) for value in status.values]
    assert values == [
        (name, number) for number, name in enumerate(ENUMS[f"{status.containing_type.name}.{status.name}"])
    ]


def test_a_request_of_the_client_has_the_same_bytes_here():
    request = service_pb2.ModelInferRequest(model_name="a", model_version="2", id="x")
    tensor = request.inputs.add(name="in", datatype="FP32", shape=[1, 300])
    tensor.contents.fp32_contents.extend([1.5, -2.0])
    tensor.parameters["shared_memory_byte_size"].int64_param = 1 << 40
    request.parameters["on"].bool_param = False
    request.outputs.add(name="out").parameters["classification"].int64_param = 3
    request.raw_input_contents.extend([b"", b"abc"])
    data = request.SerializeToString(deterministic=True)
    mine = INFERENCE_MESSAGES["ModelInferRequest"].FromString(data)
    assert mine.SerializeToString(deterministic=True) == data
    assert mine.parameters["on"].WhichOneof("parameter_choice") == "bool_param"
    assert list(mine.inputs[0].contents.fp32_contents) == [1.5, -2.0]
