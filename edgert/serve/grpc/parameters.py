"""What a request's parameters say. Texts are the Inference Server's, as clients may know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edgert.errors import RequestError
from edgert.frames.request import Parameter, SequenceStep
from edgert.serve.grpc.schema import CHOICE

EMPTY_FINAL = "triton_enable_empty_final_response"
FINAL = "triton_final_response"
_RESERVED = "triton_"
_MAX_TIMEOUT_US = 1 << 53  # what JSON's numbers hold
_UINT64_MAX = (1 << 64) - 1


class RequestParameters(msgspec.Struct, frozen=True):
    """Those that edgert heeds, and the rest as it came."""

    priority: int = 0
    timeout_us: int = 0
    sequence: SequenceStep | None = None
    wants_empty_final: bool = False
    rest: dict[str, Parameter] = {}


NO_PARAMETERS = RequestParameters()


def read_parameters(given: Any) -> RequestParameters:
    """Return the parameters of a request, a map of InferParameter. Raises RequestError."""
    if not given:
        return NO_PARAMETERS
    values = plain(given)
    return RequestParameters(
        priority=_priority(values.pop("priority", 0)),
        timeout_us=_timeout_us(values.pop("timeout", 0)),
        sequence=_sequence(values),
        wants_empty_final=_flag(values, EMPTY_FINAL),
        rest=_rest(values),
    )


def plain(given: Any) -> dict[str, Any]:
    """Return a map of parameters with plain values; those without one are left out."""
    values = {}
    for key, parameter in given.items():
        choice = parameter.WhichOneof(CHOICE)
        if choice is not None:
            values[key] = getattr(parameter, choice)
    return values


def set_parameters(given: Any, values: Mapping[str, Parameter]) -> None:
    """Put plain values into a map of InferParameter."""
    for key, value in values.items():
        if isinstance(value, bool):
            given[key].bool_param = value
        elif isinstance(value, int):
            given[key].int64_param = value
        elif isinstance(value, float):
            given[key].double_param = value
        else:
            given[key].string_param = value


def _priority(value: Parameter) -> int:
    if type(value) is not int:
        raise RequestError(
            "invalid value type for 'priority' parameter, expected int64_param or uint64_param."
        )
    if value < 0:
        raise RequestError("invalid value for 'priority', expected value >= 0.")
    return value


def _timeout_us(value: Parameter) -> int:
    if type(value) is not int:
        raise RequestError("invalid value type for 'timeout' parameter, expected int64_param.")
    if value > _MAX_TIMEOUT_US:
        raise RequestError(f"invalid value for 'timeout', expected value <= {_MAX_TIMEOUT_US}.")
    return max(value, 0)


def _sequence(values: dict[str, Parameter]) -> SequenceStep | None:
    sequence = values.pop("sequence_id", 0)
    is_start, is_end = _flag(values, "sequence_start"), _flag(values, "sequence_end")
    if isinstance(sequence, bool | float):
        raise RequestError(
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param."
        )
    if isinstance(sequence, int):
        sequence &= _UINT64_MAX  # negative ones are taken as the Inference Server takes them
    return SequenceStep(sequence, is_start, is_end) if sequence else None


def _flag(values: dict[str, Parameter], key: str) -> bool:
    value = values.pop(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"invalid value type for '{key}' parameter, expected bool_param.")
    return value


def _rest(values: dict[str, Parameter]) -> dict[str, Parameter]:
    if any(key.startswith(_RESERVED) for key in values):
        raise RequestError(
            f"parameter keys starting with '{_RESERVED}' are reserved for Triton usage. Only the following "
            f"keys starting with '{_RESERVED}' are allowed: {EMPTY_FINAL}"
        )
    return values
