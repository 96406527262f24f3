"""The protobuf message of a model's configuration, and the trees of plain values that it holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

from edgert.models.config_schema import MESSAGES, Field, Fields
from edgert.models.config_values import ENUMS

_PACKAGE = "inference"
_Kind = descriptor_pb2.FieldDescriptorProto
_PINNED = {"enable": True}  # of input_pinned_memory and output_pinned_memory
Tree = dict[str, Any]
ConfigMessage = Message


@functools.cache
def message_class() -> type[Message]:
    """Return the class of `inference.ModelConfig`, in a descriptor pool of its own.

    Fields say whether they are given (`HasField`), which the Inference Server's own do not.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file_descriptor().SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ModelConfig"))


def message_of(tree: Tree) -> Message:
    """Return a message with these fields; None is a field that is not given."""
    message = message_class()()
    json_format.ParseDict(tree, message)
    return message


def message_of_json(text: str) -> Message:
    """Return the message that protobuf's JSON stands for. Raises ValueError."""
    if not text.lstrip().startswith("{"):
        raise ValueError("expected an object in { }")
    try:
        return json_format.Parse(text, message_class()())
    except (json_format.ParseError, RecursionError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def given_fields(message: Message) -> Tree:
    """Return the fields that are given, by name; enums as their names."""
    return _given(message, MESSAGES["ModelConfig"])


def all_fields(message: Message) -> Tree:
    """Return all fields but the messages and choices that are not given, as the Inference Server does."""
    return _whole(message, MESSAGES["ModelConfig"])


def ignored_fields(tree: Tree) -> list[str]:
    """Return the paths, such as `input[0].dims`, of what is given and never followed."""
    return list(dict.fromkeys(_ignored(tree, MESSAGES["ModelConfig"], "")))


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="edgert/model_config.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    return file


def _describe(message: descriptor_pb2.DescriptorProto, fields: Fields) -> None:
    choices = list(dict.fromkeys(field.choice for field in fields.values() if field.choice))
    for choice in choices:
        message.oneof_decl.add(name=choice)
    for name, field in fields.items():
        label = _Kind.LABEL_OPTIONAL if field.label == "one" else _Kind.LABEL_REPEATED
        kind = _map_entry(message, name, field) if field.label == "map" else field.type
        described = message.field.add(name=name, number=field.number, label=label)
        _set_type(described, kind)
        if field.choice:
            described.oneof_index = choices.index(field.choice)


def _map_entry(message: descriptor_pb2.DescriptorProto, name: str, field: Field) -> str:
    """Add the nested message that is one entry of a map, and return its name."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    entry = message.nested_type.add(name=f"{camel}Entry")
    entry.options.map_entry = True
    _describe(entry, field.members or {})
    return f"{message.name}.{entry.name}"


def _set_type(described: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    scalar = f"TYPE_{kind.upper()}"
    if scalar in _Kind.Type.keys():  # noqa: SIM118  # an enum's wrapper has no `in`
        described.type = _Kind.Type.Value(scalar)
    else:
        described.type = _Kind.TYPE_ENUM if kind in ENUMS else _Kind.TYPE_MESSAGE
        described.type_name = f".{_PACKAGE}.{kind}"


_Walk = Callable[[Message, Fields], Tree]


def _given(message: Message, fields: Fields) -> Tree:
    given = {described.name: value for described, value in message.ListFields()}
    return {name: _value(given[name], field, _given) for name, field in fields.items() if name in given}


def _whole(message: Message, fields: Fields) -> Tree:
    return {
        name: _value(getattr(message, name), field, _whole)
        for name, field in fields.items()
        if _is_shown(message, name, field)
    }


def _is_shown(message: Message, name: str, field: Field) -> bool:
    may_lack = field.label == "one" and (bool(field.choice) or field.type in MESSAGES)
    return not may_lack or message.HasField(name)


def _value(value: Any, field: Field, walk: _Walk) -> Any:
    if field.label == "many":
        return [_one(item, field, walk) for item in value]
    if field.label == "map":
        return {str(key): _one(value[key], field, walk) for key in sorted(value)}
    return _one(value, field, walk)


def _one(value: Any, field: Field, walk: _Walk) -> Any:
    if field.type in MESSAGES:
        return walk(value, MESSAGES[field.type])
    if field.type == "float" and walk is _whole:
        return float(str(np.float32(value)))  # the shortest that means the same
    return ENUMS[field.type][value] if field.type in ENUMS else value


def _ignored(tree: Tree, fields: Fields, path: str) -> Iterator[str]:
    for name, value in tree.items():
        field, place = fields[name], f"{path}.{name}".lstrip(".")
        if not field.is_followed:
            if not _is_usual(value, field):
                yield place
        elif field.type in MESSAGES:
            yield from _ignored_below(value, field, place)


def _ignored_below(value: Any, field: Field, path: str) -> Iterator[str]:
    members = MESSAGES[field.type]
    if field.label == "many":
        for index, item in enumerate(value):
            yield from _ignored(item, members, f"{path}[{index}]")
    else:
        for item in value.values() if field.label == "map" else [value]:
            yield from _ignored(item, members, path)


def _is_usual(value: Any, field: Field) -> bool:
    """Tell whether the value is what the Inference Server takes, and shows, where none is given."""
    if isinstance(value, dict) and field.label == "one":
        members = MESSAGES[field.type]
        return value == _PINNED or all(_is_usual(item, members[name]) for name, item in value.items())
    return not value or (field.type in ENUMS and value == ENUMS[field.type][0])
