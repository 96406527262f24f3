"""Sparkplug B payloads: protobuf, wire-compatible with `org.eclipse.tahu.protobuf.Payload`.

Described are the fields that edgert writes or reads; others in what it reads are passed over.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from edgert.errors import SinkError

Scalar = bool | int | float | str | bytes

_PACKAGE = "org.eclipse.tahu.protobuf"
_CHOICE = "value"
_Kind = descriptor_pb2.FieldDescriptorProto


class DataType(IntEnum):
    """The types of Sparkplug 3.0, section 6.4.16, that edgert writes."""

    INT32 = 3
    INT64 = 4
    FLOAT = 9
    BOOLEAN = 11
    STRING = 12


class Value(msgspec.Struct, frozen=True):
    """What a metric has at one time."""

    datatype: DataType
    content: Scalar | None  # None: null


class Metric(msgspec.Struct, frozen=True):
    """One named value. `utc_ms`: when it was captured."""

    name: str
    value: Value
    utc_ms: int
    is_historical: bool = False


# Numbers are those of sparkplug_b.proto. One of the second group holds a metric's value.
_PAYLOAD = {"timestamp": (1, "uint64"), "seq": (3, "uint64"), "uuid": (4, "string"), "body": (5, "bytes")}
_METRIC = {
    "name": (1, "string"),
    "alias": (2, "uint64"),
    "timestamp": (3, "uint64"),
    "datatype": (4, "uint32"),
    "is_historical": (5, "bool"),
    "is_transient": (6, "bool"),
    "is_null": (7, "bool"),
}
_VALUES = {
    "int_value": (10, "uint32"),
    "long_value": (11, "uint64"),
    "float_value": (12, "float"),
    "double_value": (13, "double"),
    "boolean_value": (14, "bool"),
    "string_value": (15, "string"),
    "bytes_value": (16, "bytes"),
}
_FIELD_OF_TYPE = {
    DataType.INT32: "int_value",
    DataType.INT64: "long_value",
    DataType.FLOAT: "float_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}


def encode(metrics: Iterable[Metric], utc_ms: int, seq: int | None) -> bytes:
    """Return the payload of a message that is published at `utc_ms`. Integers are 0 or more."""
    message: Any = message_class()(timestamp=utc_ms, seq=seq)
    for metric in metrics:
        value = metric.value
        # Data need not say its type, which stands in the birth; but many receivers read nothing without.
        added = message.metrics.add(name=metric.name, timestamp=metric.utc_ms, datatype=value.datatype)
        if metric.is_historical:
            added.is_historical = True
        if value.content is None:
            added.is_null = True
        else:
            setattr(added, _FIELD_OF_TYPE[value.datatype], value.content)
    payload: bytes = message.SerializeToString()
    return payload


def decode_values(payload: bytes) -> dict[str, Scalar | None]:
    """Return the values of a command by the metrics' names; None if it has none that edgert reads.

    Raises:
        SinkError: the bytes are not a Sparkplug B payload.
    """
    message: Any = message_class()()
    try:
        message.ParseFromString(payload)
        return {metric.name: _scalar(metric) for metric in message.metrics}
    except (DecodeError, UnicodeDecodeError) as error:
        raise SinkError(f"{len(payload)} bytes are not a Sparkplug B payload: {error}") from error


@functools.cache
def message_class() -> type[Message]:
    """Return the class of `Payload`, in a descriptor pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file_descriptor().SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def _scalar(metric: Any) -> Scalar | None:
    field = metric.WhichOneof(_CHOICE)
    value: Scalar | None = getattr(metric, field) if field else None
    return value


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="edgert/sparkplug.proto", package=_PACKAGE, syntax="proto2"
    )
    payload = file.message_type.add(name="Payload")
    _describe(payload, _PAYLOAD)
    payload.field.add(
        name="metrics",
        number=2,
        label=_Kind.LABEL_REPEATED,
        type=_Kind.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.Payload.Metric",
    )
    metric = payload.nested_type.add(name="Metric")
    _describe(metric, _METRIC)
    metric.oneof_decl.add(name=_CHOICE)
    _describe(metric, _VALUES, oneof_index=0)
    return file


def _describe(
    message: descriptor_pb2.DescriptorProto,
    fields: dict[str, tuple[int, str]],
    oneof_index: int | None = None,
) -> None:
    for name, (number, kind) in fields.items():
        scalar = _Kind.Type.Value(f"TYPE_{kind.upper()}")
        message.field.add(
            name=name, number=number, label=_Kind.LABEL_OPTIONAL, type=scalar, oneof_index=oneof_index
        )
