"""Reads config.pbtxt, protobuf text, through the protobuf library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import text_format

from edgert.errors import ModelError
from edgert.models.config_message import message_class
from edgert.models.config_outline import Outline, Token, shorten
from edgert.models.config_schema import problem
from edgert.models.config_tree import Reading, read_message
from edgert.models.files import read_text

MAX_BYTES = 1 << 20


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
    reading = read_message(message, file, outline.locate, model)
    return Reading(reading.config, outline.warnings() + reading.warnings)


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
