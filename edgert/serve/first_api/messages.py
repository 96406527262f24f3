"""Makes the classes of the messages from `schema`, and their text and bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from edgert.errors import RequestError
from edgert.models.config_message import message_class
from edgert.serve.first_api.schema import CONFIG, ENUMS, MESSAGES, PACKAGE

_Kind = descriptor_pb2.FieldDescriptorProto


def parse_text(kind: str, text: str, place: str) -> Any:
    """Return the message that a text is. Raises RequestError, with its `place`."""
    try:
        return text_format.Parse(text, MESSAGE_CLASSES[kind]())
    except text_format.ParseError as error:
        raise RequestError(f"{place} cannot be read: {error}") from None


def one_line(message: Any) -> str:
    """Return a message's text for a header: ASCII, and control characters only as escapes."""
    return text_format.MessageToString(message, as_one_line=True, as_utf8=False)


def encoded(message: Any, *, is_binary: bool) -> bytes:
    """Return a message for a body."""
    if is_binary:
        return bytes(message.SerializeToString())
    return text_format.MessageToString(message).encode()


def _classes() -> dict[str, Any]:
    """Return the classes by name, from a descriptor pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    config = message_class().DESCRIPTOR
    pool.AddSerializedFile(config.file.serialized_pb)
    file = _describe_package(config.file.name, config.full_name)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


def _describe_package(config_file: str, config: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="edgert/first_api.proto", package=PACKAGE, syntax="proto3", dependency=[config_file]
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    described: dict[str, descriptor_pb2.DescriptorProto] = {}
    for path, fields in MESSAGES.items():
        parent, _, name = path.rpartition(".")
        described[path] = (described[parent].nested_type if parent else file.message_type).add(name=name)
        for field in fields.split("; "):
            _add_field(described[path], path, field, config)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, words: str, config: str) -> None:
    number, _, rest = words.partition(" ")
    kind, _, name = rest.rpartition(" ")
    label = _Kind.LABEL_REPEATED if kind[-1] in "*>" else _Kind.LABEL_OPTIONAL
    if kind[0] == "<":
        kind = _add_map_entry(message, path, kind[1:-1], name, config)
    _set_type(message.field.add(name=name, number=int(number), label=label), kind.rstrip("*"), config)


def _add_map_entry(
    message: descriptor_pb2.DescriptorProto, path: str, kinds: str, name: str, config: str
) -> str:
    """Add the nested message that is one entry of a map, and return its path."""
    entry = message.nested_type.add(name="".join(map(str.capitalize, name.split("_"))) + "Entry")
    entry.options.map_entry = True
    key, _, value = kinds.partition(", ")
    _add_field(entry, f"{path}.{entry.name}", f"1 {key} key", config)
    _add_field(entry, f"{path}.{entry.name}", f"2 {value} value", config)
    return f"{path}.{entry.name}"


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str, config: str) -> None:
    if kind == CONFIG:
        field.type, field.type_name = _Kind.TYPE_MESSAGE, f".{config}"
    elif kind in ENUMS:
        field.type, field.type_name = _Kind.TYPE_ENUM, f".{PACKAGE}.{kind}"
    elif kind[0].isupper():
        field.type, field.type_name = _Kind.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = _Kind.Type.Value(f"TYPE_{kind.upper()}")


MESSAGE_CLASSES = _classes()
