"""What the JSON of requests asks for. Clients repeat themselves: the same bytes are not read twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edgert.frames.request import SequenceStep
from edgert.serve.encode import Wish
from edgert.serve.http.infer_body import (
    InferBody,
    OutputTensor,
    Settings,
    check_outline,
    read_json,
    read_settings,
)
from edgert.serve.shared_memory import SharedMemory, no_regions

LONG_TEXT_BYTES = 1 << 15
MAX_REMEMBERED = 64  # texts, over all connections
MAX_REMEMBERED_BYTES = 1 << 10  # of one


class Asked(msgspec.Struct, frozen=True):
    """One request's JSON, read. Nobody may change it."""

    body: InferBody
    settings: Settings
    sequence: SequenceStep | None
    others: Mapping[str, Any]  # parameters that have no meaning of their own
    otherwise: Wish  # for outputs that are not named
    named: Mapping[str, Wish]  # those that are, but for what stands in shared memory
    has_regions: bool  # an input or an output names shared memory
    has_long_texts: bool  # an input has texts that take long to be told apart

    def wishes(self, regions: SharedMemory | None) -> Mapping[str, Wish]:
        """Return how outputs are wanted; without shared memory `regions` is None. Raises RequestError."""
        return {output.name: self._placed(output, regions) for output in self.body.outputs}

    def _placed(self, output: OutputTensor, regions: SharedMemory | None) -> Wish:
        wish, wanted = self.named[output.name], output.parameters
        if wanted.shared_memory_region is None:
            return wish
        if regions is None:
            raise no_regions()
        span = regions.span(
            wanted.shared_memory_region, wanted.shared_memory_offset, wanted.shared_memory_byte_size
        )
        return msgspec.structs.replace(wish, span=span)


class JsonReader:
    """Reads the JSON of requests. Any thread."""

    def __init__(self) -> None:
        self._remembered: dict[bytes, Asked] = {}

    def read(self, data: memoryview) -> Asked:
        """Return what a request asks for. Raises RequestError."""
        if len(data) > MAX_REMEMBERED_BYTES:
            check_outline(data)
            return ask(read_json(data, InferBody))
        text = bytes(data)
        asked = self._remembered.get(text)
        if asked is None:
            asked = ask(read_json(memoryview(text), InferBody))
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = asked
        return asked


def ask(body: InferBody) -> Asked:
    """Return what a body asks for. Raises RequestError."""
    settings, others = read_settings(body.parameters)
    otherwise = Wish(is_binary=settings.binary_data_output)
    regions = [tensor.parameters.shared_memory_region for tensor in body.inputs]
    regions += [output.parameters.shared_memory_region for output in body.outputs]
    return Asked(
        body,
        settings,
        settings.sequence,
        others,
        otherwise,
        {output.name: _wish(output, otherwise) for output in body.outputs},
        has_regions=any(region is not None for region in regions),
        has_long_texts=_has_long_texts(body),
    )


def _wish(output: OutputTensor, otherwise: Wish) -> Wish:
    wanted = output.parameters
    is_binary = otherwise.is_binary if wanted.binary_data is None else wanted.binary_data
    return Wish(is_binary, wanted.classification)


def _has_long_texts(body: InferBody) -> bool:
    return any(
        tensor.datatype == "BYTES"
        and max(tensor.parameters.binary_data_size or 0, tensor.parameters.shared_memory_byte_size)
        > LONG_TEXT_BYTES
        for tensor in body.inputs
    )
