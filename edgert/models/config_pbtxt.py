"""Reads config.pbtxt, protobuf text, through the protobuf library."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from edgert.errors import ModelError
from edgert.models.config_checks import check_config
from edgert.models.config_outline import Outline, Token, shorten
from edgert.models.config_schema import CHOICES, ENUMS, MESSAGES, Field, Fields, problem
from edgert.models.files import read_text
from edgert.models.model_config import DTYPE_OF_DATA_TYPE, ModelConfig

MAX_BYTES = 1 << 20
_PACKAGE = "inference"
_Kind = descriptor_pb2.FieldDescriptorProto
Tree = dict[str, Any]


class Reading(msgspec.Struct, frozen=True):
    """A configuration, and a sentence for each field of its file that edgert does not know."""

    config: ModelConfig
    warnings: tuple[str, ...] = ()


def read_config(path: Path, model: str = "") -> Reading:
    """Read a file of at most 1 MiB; a `name` in it must be `model`, unless that is empty.

    Raises:
        ModelError: it cannot be read, or is wrong; the message names file, line and field.
    """
    return parse_config(read_text(path, MAX_BYTES), str(path), model)


def parse_config(text: str, file: str = "config.pbtxt", model: str = "") -> Reading:
    """Read the text of a file as `read_config` does; `file` is for messages. Raises ModelError."""
    outline = Outline(file, _tokens(text))
    message = message_class()()
    try:
        text_format.Parse(_without_unknown(text, outline), message)
    except text_format.ParseError as error:
        raise _explain(error, text, outline) from None
    config = _config(_tree(message, MESSAGES["ModelConfig"]), file)
    check_config(config, outline.locate, model)
    return Reading(config, outline.warnings())


@functools.cache
def message_class() -> type[Message]:
    """Return the class of `inference.ModelConfig`, in a descriptor pool of its own.

    Fields say whether they are given (`HasField`), which the Inference Server's own do not.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file_descriptor().SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ModelConfig"))


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
    choice = CHOICES.get(message.name)
    if choice:
        message.oneof_decl.add(name=choice)
    for name, field in fields.items():
        label = _Kind.LABEL_OPTIONAL if field.label == "one" else _Kind.LABEL_REPEATED
        kind = _map_entry(message, name, field) if field.label == "map" else field.type
        described = message.field.add(name=name, number=field.number, label=label)
        _set_type(described, kind)
        if choice:
            described.oneof_index = 0


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


def _tokens(text: str) -> Iterator[Token]:
    tokenizer = text_format.Tokenizer(text.split("\n"))
    while not tokenizer.AtEnd():
        word = tokenizer.token
        tokenizer.NextToken()
        # An error is the only public way to ask for a position; that of the token before copies no text.
        place = tokenizer.ParseErrorPreviousToken("")  # type: ignore[arg-type]
        yield Token(word, place.GetLine() or 1, place.GetColumn() or 1)


def _without_unknown(text: str, outline: Outline) -> str:
    """Return `text` with spaces where fields are not known, so that positions stay."""
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    pieces, done = [], 0
    for field in outline.unknown:
        start = line_starts[field.start.line - 1] + field.start.column - 1
        end = line_starts[field.end.line - 1] + field.end.column - 1 + len(field.end.text)
        pieces += [text[done:start], re.sub(r"[^\n]", " ", text[start:end])]
        done = end
    return "".join([*pieces, text[done:]])


def _explain(error: text_format.ParseError, text: str, outline: Outline) -> ModelError:
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    place = outline.before(line, column)
    if place.field.type == "string" and "': Couldn't parse string: " in str(error):
        return problem(
            f"{outline.file}:{place.start.line}", place.path, "found bytes, expected text in UTF-8"
        )
    rest = text.split("\n")[line - 1][column - 1 :]
    found = shorten(re.split(r"(?<=.)[\s,;}>\]]", rest, maxsplit=1)[0])
    return problem(f"{outline.file}:{line}", place.path, f"found {found}, expected {place.field.expected}")


def _tree(message: Message, fields: Fields) -> Tree:
    """Return the fields that are given, by name; enums as their names."""
    return {given.name: _value(value, fields[given.name]) for given, value in message.ListFields()}


def _value(value: Any, field: Field) -> Any:
    if field.label == "many":
        return [_one(item, field) for item in value]
    if field.label == "map":
        return {key: _one(value[key], field) for key in value}
    return _one(value, field)


def _one(value: Any, field: Field) -> Any:
    if field.type in MESSAGES:
        return _tree(value, MESSAGES[field.type])
    return ENUMS[field.type][value] if field.type in ENUMS else value


def _config(tree: Tree, file: str) -> ModelConfig:
    for tensor in [*tree.get("input", ()), *tree.get("output", ())]:
        tensor["dtype"] = DTYPE_OF_DATA_TYPE[tensor.pop("data_type", "TYPE_INVALID")]
        tensor["reshape"] = tensor["reshape"].get("shape", ()) if "reshape" in tensor else None
    parameters = {key: value.get("string_value", "") for key, value in tree.get("parameters", {}).items()}
    policy = _policy(tree.get("version_policy", {}))
    return msgspec.convert(
        {**tree, "parameters": parameters, "version_policy": policy, "file": file}, ModelConfig
    )


def _policy(tree: Tree) -> Tree:
    kind = next(iter(tree), "latest")
    options = tree.get(kind, {})
    return {"kind": kind, "count": options.get("num_versions", 1), "versions": options.get("versions", ())}
