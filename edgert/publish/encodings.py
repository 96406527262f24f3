"""The encodings that a sink can have, and the way from a name to an Encoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from edgert.frames.result import Result
from edgert.publish.deepstream import DeepStreamEncoder, full_message, minimal_message
from edgert.publish.encoder import Encoder
from edgert.publish.payload import PayloadBuilder, ResultEncoder

# json and msgpack: edgert's own format. The others: DeepStream's schemas, see `deepstream`.
Encoding = Literal["json", "msgpack", "deepstream_minimal", "deepstream_full"]


class MsgpackEncoder:
    """The Encoder of MessagePack: what the JSON says, in the same maps and lists.

    Detections are no smaller than in JSON, since rounded numbers are short as text; tensors are half as
    large. Keeps a buffer for reuse, so each thread needs one of its own.
    """

    content_type = "application/msgpack"

    def __init__(self, builder: PayloadBuilder) -> None:
        self._builder = builder
        self._encode = msgspec.msgpack.Encoder().encode

    def encode(self, result: Result, historical: bool = False) -> bytes:
        """Return the MessagePack of `result`, published now. `historical` marks one that is not live."""
        return self._encode(self._builder.build(result, historical))


def make_encoder(
    name: Encoding,
    node: str,
    boot: str,
    utc_ns: Callable[[], int] = time.time_ns,
    mono_ns: Callable[[], int] = time.monotonic_ns,
) -> Encoder:
    """Return a new Encoder, for one thread. `boot` is this start, for results that name none."""
    if name == "json":
        return ResultEncoder(node, boot, utc_ns, mono_ns)
    builder = PayloadBuilder(node, boot, utc_ns, mono_ns)
    if name == "msgpack":
        return MsgpackEncoder(builder)
    return DeepStreamEncoder(builder, minimal_message if name == "deepstream_minimal" else full_message)
