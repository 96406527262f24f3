"""Walks the tokens of a config.pbtxt: where each field stands, and which are not known.

The walk knows the grammar and the names; what a value must be is left to the protobuf library.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from edgert.errors import ModelError
from edgert.models.config_schema import MESSAGES, Field, Fields, problem

MAX_DEPTH = 32  # levels of messages; the library's own parser has no bound
MAX_NAME = 200  # characters, so that no message is longer than a reader's patience
MAX_WARNINGS = 100
_CLOSING = {"{": "}", "<": ">"}
_NAME = re.compile(rf"\w{{1,{MAX_NAME}}}", re.ASCII)
_WORD = re.compile(r"[0-9A-Za-z_.+-]+")
# Other escapes are not protobuf's, and Python would read them as something else, with a warning.
_TEXT = re.compile(
    r"""(?:[^\\] | \\(?: [abfnrtv"'\\] | [0-3][0-7]{0,2} | [4-7][0-7]?(?![0-7])
        | x[0-9A-Fa-f]{1,2} | u[0-9A-Fa-f]{4} | U[0-9A-Fa-f]{8} ) )*""",
    re.VERBOSE | re.DOTALL,
)


class Token(msgspec.Struct, frozen=True, gc=False):
    """A word, number, quoted text or punctuation mark. Line and column count from 1."""

    text: str
    line: int
    column: int

    @property
    def is_quoted(self) -> bool:
        """It is a text in quotes."""
        return self.text.startswith(("'", '"'))


class Place(msgspec.Struct, frozen=True):
    """A known field that the file gives, and where its name stands."""

    path: str  # e.g. input[0].dims
    field: Field
    start: Token


class Unknown(msgspec.Struct, frozen=True):
    """A field that edgert does not know, from its name to the last token of its value."""

    path: str
    start: Token
    end: Token
    siblings: Fields  # what it could have been


class Outline:
    """The fields of one file in their order."""

    def __init__(self, file: str, tokens: Iterator[Token]) -> None:
        """Walk `tokens`. Raises ModelError where they are not protobuf text."""
        self.file = file
        self.known: list[Place] = []
        self.unknown: list[Unknown] = []
        self._lines: dict[str, int] = {}
        self._tokens = tokens
        self._end = Token("", 1, 1)
        self._next = self._last = self._end
        self._take()
        self._message(MESSAGES["ModelConfig"], "", "", 0)

    def locate(self, path: str) -> str:
        """Return `file:line` of a field, or of the message that it is missing from."""
        while path and path not in self._lines:
            path = path.rpartition(".")[0]
        return f"{self.file}:{self._lines.get(path, 1)}"

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each field that is not known, up to 100."""
        sentences = [self._warning(field) for field in self.unknown[:MAX_WARNINGS]]
        if len(self.unknown) > MAX_WARNINGS:
            sentences.append(f"{self.file}: {len(self.unknown) - MAX_WARNINGS} more fields are not known")
        return tuple(sentences)

    def before(self, line: int, column: int) -> Place:
        """Return the last known field that starts before this position."""
        places = reversed(self.known)
        return next(p for p in places if (p.start.line, p.start.column) < (line, column))

    def _warning(self, field: Unknown) -> str:
        near = difflib.get_close_matches(field.start.text, field.siblings, n=1, cutoff=0.8)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        where = f"{self.file}:{field.start.line}"
        return f"{where}: field {field.path!r} is not known to edgert and is ignored{hint}"

    def _take(self) -> Token:
        self._last, self._next = self._next, next(self._tokens, self._end)
        return self._last

    def _try(self, *texts: str) -> bool:
        found = self._next.text in texts
        if found:
            self._take()
        return found

    def _error(self, path: str, expected: str) -> ModelError:
        found = f"found {shorten(self._next.text)}" if self._next.text else "the file ends"
        line = self._next.line if self._next.text else self._last.line
        return problem(f"{self.file}:{line}", path, f"{found}, expected {expected}")

    def _message(self, fields: Fields | None, path: str, closing: str, depth: int) -> None:
        """Walk fields up to `closing`; `fields` is None inside what is not known."""
        if depth > MAX_DEPTH:
            raise self._error(path, f"at most {MAX_DEPTH} levels of nesting")
        seen: Counter[str] = Counter()  # by path: how often in this message
        while self._next.text not in ("", closing):
            self._field(fields, path, seen, depth)
        if closing and not self._try(closing):
            raise self._error(path, repr(closing))

    def _field(self, fields: Fields | None, parent: str, seen: Counter[str], depth: int) -> None:
        start = self._next
        path = f"{parent}.{self._name(parent)}".lstrip(".")
        field = (fields or {}).get(start.text)
        if field and fields:
            self._check_repetition(field, fields, path, seen)
            seen[path] += field.label == "one"
            self.known.append(Place(path, field, start))
            self._lines.setdefault(path, start.line)
        self._value(field, path, seen, depth)
        self._try(",", ";")
        if fields is not None and not field:
            self.unknown.append(Unknown(path, start, self._last, fields))

    def _name(self, parent: str) -> str:
        if self._next.text == "[":  # an extension, or a type's address
            words = [self._take().text]
            while self._next.text not in ("", "]"):
                words.append(self._take().text)
            words.append("]")
            if not self._try("]"):
                raise self._error(parent, "']'")
            return "".join(words)[:MAX_NAME]
        if not _NAME.fullmatch(self._next.text):
            raise self._error(parent, "a field's name")
        return self._take().text

    def _check_repetition(self, field: Field, fields: Fields, path: str, seen: Counter[str]) -> None:
        where = f"{self.file}:{self._last.line}"
        if field.label == "one" and seen[path]:
            raise problem(where, path, "given again, expected once")
        rivals = [name for name, other in fields.items() if field.choice and other.choice == field.choice]
        parent = path.rpartition(".")[0]
        if any(seen[f"{parent}.{name}".lstrip(".")] for name in rivals):
            raise problem(where, path, f"stands beside another, expected only one of {', '.join(rivals)}")

    def _value(self, field: Field | None, path: str, seen: Counter[str], depth: int) -> None:
        has_colon = self._try(":")
        if not self._try("["):
            self._item(field, path, seen, depth, has_colon)
        elif not self._try("]"):
            self._item(field, path, seen, depth, has_colon)
            while self._try(","):
                self._item(field, path, seen, depth, has_colon)
            if not self._try("]"):
                raise self._error(path, "',' or ']'")

    def _item(self, field: Field | None, path: str, seen: Counter[str], depth: int, has_colon: bool) -> None:
        closing = _CLOSING.get(self._next.text)
        if closing:
            line = self._take().line
            if field and field.label == "many":
                seen[path] += 1
                path = f"{path}[{seen[path] - 1}]"
                self._lines[path] = line
            self._message(field.members if field else None, path, closing, depth + 1)
        elif not has_colon:
            raise self._error(path, "':'")
        else:
            self._scalar(path, field.expected if field else "a value")

    def _scalar(self, path: str, expected: str) -> None:
        if not self._next.is_quoted:
            if not _WORD.fullmatch(self._next.text):
                raise self._error(path, expected)
            self._take()
        else:
            while self._next.is_quoted:
                self._check_quoted(self._next.text, path)
                self._take()

    def _check_quoted(self, text: str, path: str) -> None:
        if len(text) < 2 or text[-1] != text[0]:
            raise self._error(path, "a closing quote on the same line")
        if not _TEXT.fullmatch(text[1:-1]):
            raise self._error(path, r"'\' only in escapes such as \n, \\ or \x41")


def shorten(text: str) -> str:
    """Return `text` in quotes, cut to a length that fits a message."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
