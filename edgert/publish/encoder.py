"""How a result becomes the bytes of one message."""

from __future__ import annotations

from typing import Protocol

from edgert.frames.result import Result


class Encoder(Protocol):
    """Encodes results, on one thread. The payload has the key: boot, source, seq, model."""

    content_type: str  # a media type, for MQTT 5

    def encode(self, result: Result, historical: bool = False) -> bytes:
        """Return the payload, published now. `historical` marks one that is not live.

        Whatever a decoder handed on may make it raise; the caller counts that.
        """
