"""Where tensors stand in shared memory, and how a client wants each output."""

from __future__ import annotations

from typing import Any

from edgert.errors import RequestError, UnsupportedError
from edgert.serve.encode import Wish
from edgert.serve.grpc.parameters import plain
from edgert.serve.shared_memory import SharedMemory, Span

_REGION = "shared_memory_region"
_BYTE_SIZE = "shared_memory_byte_size"
_OFFSET = "shared_memory_offset"
_CLASSIFICATION = "classification"

AS_IT_IS = Wish(is_binary=True)


def shared_span(parameters: Any, name: str, shared_memory: SharedMemory | None) -> Span | None:
    """Return the memory that a tensor's parameters name; None if they name none. Raises RequestError."""
    return _span(plain(parameters), name, shared_memory) if parameters else None


def read_outputs(outputs: Any, shared_memory: SharedMemory | None) -> dict[str, Wish]:
    """Return how each output is wanted, in the client's order. Raises RequestError."""
    return {
        output.name: _wanted(plain(output.parameters), output.name, shared_memory)
        if output.parameters
        else AS_IT_IS
        for output in outputs
    }


def _wanted(values: dict[str, Any], name: str, shared_memory: SharedMemory | None) -> Wish:
    if _CLASSIFICATION in values and _REGION in values:
        raise RequestError("output can't set both 'shared_memory_region' and 'classification'")
    return Wish(is_binary=True, classes=_classes(values), span=_span(values, name, shared_memory))


def _classes(values: dict[str, Any]) -> int:
    count = values.get(_CLASSIFICATION, 1)
    if type(count) is not int:
        raise RequestError("invalid value type for 'classification' parameter, expected int64_param")
    if count <= 0:
        raise RequestError("invalid value for 'classification' parameter, expected >= 0")
    return count if _CLASSIFICATION in values else 0


def _span(values: dict[str, Any], name: str, shared_memory: SharedMemory | None) -> Span | None:
    region = _typed(values, _REGION, name, str)
    byte_size = _typed(values, _BYTE_SIZE, name, int)
    offset = _typed(values, _OFFSET, name, int) or 0
    if region is None:
        if byte_size is not None:
            raise _incomplete(f"'{_BYTE_SIZE}' can not be specified without '{_REGION}'", name)
        return None
    if byte_size is None:
        raise _incomplete(f"'{_BYTE_SIZE}' must be specified along with '{_REGION}'", name)
    if shared_memory is None:
        raise UnsupportedError("shared memory is off for this client")
    return shared_memory.span(region, offset, byte_size)


def _typed(values: dict[str, Any], key: str, name: str, kind: type) -> Any:
    value = values.get(key)
    if value is not None and type(value) is not kind:
        expected = "string_param" if kind is str else "int64_param"
        raise RequestError(
            f"invalid value type for '{key}' parameter for tensor '{name}', expected {expected}."
        )
    return value


def _incomplete(what: str, name: str) -> RequestError:
    return RequestError(f"{what} parameter for tensor '{name}'")
