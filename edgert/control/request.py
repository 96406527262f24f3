"""Reads a command's payload, and says where its sender wants the answer."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edgert.control.verbs import VERBS, AnyCommand, RequestId
from edgert.publish.session import Received

Refusal = Literal["unknown_verb", "not_allowed", "bad_request", "too_large", "too_many", "busy"]

MAX_FAULT = 160  # characters

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MAX_SEARCHED_BYTES = 65_536  # of a payload that is refused, and has perhaps an id


class RefusedError(Exception):
    """A command that is not done. The message says what its sender may change."""

    def __init__(self, status: Refusal, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Identity(msgspec.Struct):
    id: RequestId = None


def read_command(verb: str, payload: bytes) -> AnyCommand:
    """Return the command that a payload is; empty is `{}`. Raises RefusedError."""
    kind = VERBS[verb]
    try:
        return msgspec.json.decode(payload.strip() or b"{}", type=kind)
    except _UNREADABLE as error:
        allowed = ", ".join(kind.__struct_fields__)
        raise RefusedError("bad_request", f"{_fault(str(error))}; keys of {verb}: {allowed}") from None


def identity_of(payload: bytes) -> str | int | None:
    """Return a payload's `id`, also of one that is no command; None if it has none that is found soon."""
    if len(payload) > _MAX_SEARCHED_BYTES:
        return None
    try:
        return msgspec.json.decode(payload, type=_Identity).id
    except _UNREADABLE:
        return None


def answer_topic(received: Received) -> str:
    """Return the response topic, or `<topic>/answer` where there is none that may be published to.

    A node answers at no other topic of edgert's own: who may send commands must not speak for other nodes.
    """
    wanted, own = received.response_topic, received.topic.rpartition("/")[0] + "/"
    is_ours = wanted.startswith(received.topic.partition("/")[0] + "/") and not wanted.startswith(own)
    if not wanted or is_ours or wanted.startswith("$") or re.search(r"[+#\0]", wanted):
        return received.topic + "/answer"
    return wanted


def _fault(text: str) -> str:
    """Return what msgspec says, with `key:` instead of its path, as one short line."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    said, _, path = text.partition(" - at `$")
    key = path.strip(".`")
    return f"{f'{key}: ' if key else ''}{said[0].lower()}{said[1:MAX_FAULT]}"
