"""What a request for an inference may say in JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from edgert.errors import RequestError
from edgert.frames.request import SequenceStep
from edgert.serve.bodies import TooLargeError

T = TypeVar("T")
MAX_TIMEOUT_US = 2**53
MAX_REST_BYTES = 1 << 18  # of JSON that is read at once: the fronts' thread waits for as long
MAX_OBJECTS = 1 << 16
MAX_NAN_BYTES = 1 << 19  # of JSON with NaN or Infinity, which is read at once too
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Sides = Annotated[list[Natural], msgspec.Meta(max_length=32)]  # what NumPy takes

_EXPECTED = {
    "str": "non-string as string",
    "int": "non-unsigned-integer as unsigned-integer",
    "bool": "non-boolean as boolean",
    "array": "non-array as array",
    "object": "non-object as object",
    "float": "non-number as double",
}
_WRONG_TYPE = re.compile(r"Expected `([a-z]+)[^`]*`(.*)")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


class TensorParameters(msgspec.Struct, frozen=True):
    """Where an input's data stands, other than in `data`."""

    binary_data_size: Natural | None = None
    shared_memory_region: str | None = None
    shared_memory_offset: Natural = 0
    shared_memory_byte_size: Natural = 0


class OutputParameters(msgspec.Struct, frozen=True):
    """How an output is wanted."""

    binary_data: bool | None = None
    classification: Natural = 0
    shared_memory_region: str | None = None
    shared_memory_offset: Natural = 0
    shared_memory_byte_size: Natural = 0


if TYPE_CHECKING:
    JsonData = msgspec.Raw | None
else:
    JsonData = msgspec.Raw  # msgspec has no "or None" for it


class InputTensor(msgspec.Struct, frozen=True):
    """One input. `data` is JSON that is not read yet."""

    name: str
    shape: Sides
    datatype: str
    data: JsonData = None
    parameters: TensorParameters = TensorParameters()


class OutputTensor(msgspec.Struct, frozen=True):
    """One output that is wanted."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferBody(msgspec.Struct, frozen=True):
    """The JSON of a request."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[OutputTensor] = []
    parameters: dict[str, Any] = {}


class Settings(msgspec.Struct, frozen=True):
    """The parameters of a request that have a meaning of their own."""

    binary_data_output: bool = False
    priority: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    timeout: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMEOUT_US)] = 0  # microseconds
    sequence_id: Annotated[int, msgspec.Meta(ge=0)] | str = 0  # 64 bits
    sequence_start: bool = False
    sequence_end: bool = False

    @property
    def sequence(self) -> SequenceStep | None:
        """The step of a sequence; None if the request names none."""
        if not self.sequence_id:
            return None
        return SequenceStep(self.sequence_id, self.sequence_start, self.sequence_end)


class _Outline(msgspec.Struct):
    """What may be long in a request."""

    inputs: list[_DataOnly] = []


class _DataOnly(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


def check_outline(data: memoryview) -> None:
    """See that long JSON is long for its tensors' data, which is read in pieces: the rest is read at once.

    Raises RequestError, TooLargeError.
    """
    if len(data) <= MAX_REST_BYTES:
        return
    if bytes(data).count(b"{") > MAX_OBJECTS:
        raise TooLargeError(
            f"the JSON of a request may have {MAX_OBJECTS} objects. Send texts as binary data"
        )
    try:
        outline = msgspec.json.decode(data, type=_Outline)
    except (msgspec.DecodeError, RecursionError):
        return  # whoever reads all of it says what is wrong
    rest_bytes = len(data) - sum(len(memoryview(tensor.data)) for tensor in outline.inputs)
    if rest_bytes > MAX_REST_BYTES:
        raise TooLargeError(
            f"the JSON of a request may have {MAX_REST_BYTES} bytes beside its inputs' data; this one has "
            f"{rest_bytes}"
        )


def read_json(data: memoryview, kind: type[T]) -> T:
    """Return JSON as `kind`; NaN and Infinity are numbers. Raises RequestError."""
    try:
        return _decode(data, kind)
    except msgspec.ValidationError as error:
        raise RequestError(_explain(str(error))) from None
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise RequestError(f"failed to parse the request JSON buffer: {error}") from None


def read_settings(parameters: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return what is known of a request's parameters, and the others. Raises RequestError."""
    if not parameters:
        return Settings(), {}
    try:
        settings = msgspec.convert(parameters, Settings)
    except msgspec.ValidationError as error:
        raise RequestError(_explain(str(error))) from None
    _check_range("sequence_id", settings.sequence_id, least=0)
    others = {name: value for name, value in parameters.items() if name not in _KNOWN}
    for name, value in others.items():
        _check_range(name, value)
        if name.startswith("triton_"):
            raise RequestError(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
                "specified."
            )
        if not isinstance(value, bool | int | float | str):
            raise RequestError(
                f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'."
            )
    return settings, others


def _check_range(name: str, value: Any, least: int = -(2**63)) -> None:
    if isinstance(value, int) and not least <= value < 2**64:
        raise RequestError(f"Unable to parse '{name}': expected a number of at most 64 bits")


def explain_data(error: msgspec.ValidationError, datatype: str, name: str) -> RequestError:
    """Say what is wrong with an input's `data`."""
    text = str(error)
    match = _WRONG_TYPE.search(text)
    if match is None or "got" not in match[2]:
        return RequestError(f"Unable to parse 'data': {text.split(' - at')[0]} for {datatype} input '{name}'")
    expected = _EXPECTED.get(match[1], match[1])
    if datatype.startswith("INT"):
        expected = "non-signed-integer as signed-integer"
    return RequestError(f"Unable to parse 'data': attempt to access JSON {expected} in input '{name}'")


def _decode(data: memoryview, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        text = bytes(data).decode()
        if "NaN" not in text and "Infinity" not in text:
            raise
        if len(text) > MAX_NAN_BYTES:
            raise TooLargeError(
                f"JSON with NaN or Infinity may have {MAX_NAN_BYTES} bytes; this has {len(text)}. Send the "
                "tensors as binary data"
            ) from None
        tree = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(tree, ensure_ascii=False).encode()  # raises ValueError for half a character
        if kind is InferBody:
            _keep_data(tree)
        return msgspec.convert(tree, kind)  # what msgspec holds JSON to leaves them out


def _keep_data(tree: Any) -> None:
    """Make JSON again of the inputs' data, which is read later."""
    inputs = tree.get("inputs") if isinstance(tree, dict) else None
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and "data" in tensor:
            tensor["data"] = msgspec.Raw(json.dumps(tensor["data"], ensure_ascii=False).encode())


def _explain(text: str) -> str:
    """Say what does not fit in the Inference Server's words, and where it is."""
    place = _PLACE.search(text)
    where = place[1] if place else ""
    missing = _MISSING.match(text)
    if missing is not None:
        name, problem = missing[1], f"attempt to access non-existing object member '{missing[1]}'"
    else:
        name = re.sub(r"\[[^\]]*\]", "", where).rpartition(".")[2]
        wrong = _WRONG_TYPE.match(text)
        expected = _EXPECTED.get(wrong[1]) if wrong else None
        problem = f"attempt to access JSON {expected}" if expected else text.partition(" - at")[0]
    return f"Unable to parse '{name or 'request'}': {problem}" + (f" at {where}" if where else "")


_KNOWN = {field.name for field in msgspec.structs.fields(Settings)}
