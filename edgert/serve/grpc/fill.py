"""From edgert's structs to messages of the same names."""

from __future__ import annotations

from typing import Any

import msgspec

from edgert.serve.grpc.messages import INFERENCE_MESSAGES


def message_of(name: str, value: msgspec.Struct) -> Any:
    """Return a message of the Inference Server with what `value` has of its fields."""
    message = INFERENCE_MESSAGES[name]()
    fill(message, value)
    return message


def fill(message: Any, value: msgspec.Struct) -> None:
    """Set the fields of a message that `value` has, messages in it too."""
    for name in message.DESCRIPTOR.fields_by_name:
        own = getattr(value, name, None)
        if own is not None:
            _set(message, name, own)


def _set(message: Any, name: str, value: Any) -> None:
    if isinstance(value, msgspec.Struct):
        part = getattr(message, name)
        part.SetInParent()  # shown even if all of it is 0
        fill(part, value)
    elif isinstance(value, dict):
        for key, entry in value.items():
            fill(getattr(message, name)[key], entry)
    elif isinstance(value, list | tuple):
        _extend(getattr(message, name), value)
    else:
        setattr(message, name, value)


def _extend(repeated: Any, values: list[Any] | tuple[Any, ...]) -> None:
    for value in values:
        if isinstance(value, msgspec.Struct):
            fill(repeated.add(), value)
        else:
            repeated.append(value)
