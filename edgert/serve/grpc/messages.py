"""Makes the classes of the messages from `schema`, without generated code."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from edgert.serve.grpc.schema import CHOICE, CHOICES, ENUMS, HEALTH, INFERENCE, MESSAGES

_Kind = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64"}


def _classes(package: str) -> dict[str, Any]:
    """Return the classes of a package by name, from a descriptor pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_describe_package(package).SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in MESSAGES[package]
    }


def _describe_package(package: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"edgert/{package}.proto", package=package, syntax="proto3"
    )
    described: dict[str, descriptor_pb2.DescriptorProto] = {}
    for path, fields in MESSAGES[package].items():
        parent, _, name = path.rpartition(".")
        described[path] = (described[parent].nested_type if parent else file.message_type).add(name=name)
        _describe(described[path], path, fields, package)
    for path, values in ENUMS.items():
        parent, _, name = path.rpartition(".")
        if parent in described:
            enum = described[parent].enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
    return file


def _describe(message: descriptor_pb2.DescriptorProto, path: str, fields: str, package: str) -> None:
    if path in CHOICES:
        message.oneof_decl.add(name=CHOICE)
    for number, words in enumerate(fields.split(", ") if fields else (), 1):
        kind, name = words.split()
        field = message.field.add(name=name, number=number, label=_Kind.LABEL_OPTIONAL)
        if path in CHOICES:
            field.oneof_index = 0
        if kind[-1] in "*>":
            field.label = _Kind.LABEL_REPEATED
        if kind[0] == "<":
            kind = _add_map_entry(message, path, f"string key, {kind[1:-1]} value", name, package)
        _set_type(field, kind.rstrip("*"), package)


def _add_map_entry(
    message: descriptor_pb2.DescriptorProto, path: str, fields: str, name: str, package: str
) -> str:
    """Add the nested message that is one entry of a map, and return its path."""
    entry = message.nested_type.add(name="".join(map(str.capitalize, name.split("_"))) + "Entry")
    entry.options.map_entry = True
    _describe(entry, f"{path}.{entry.name}", fields, package)
    return f"{path}.{entry.name}"


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str, package: str) -> None:
    if kind in _SCALARS:
        field.type = _Kind.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = _Kind.TYPE_ENUM if kind in ENUMS else _Kind.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"


INFERENCE_MESSAGES = _classes(INFERENCE)
HEALTH_MESSAGES = _classes(HEALTH)
