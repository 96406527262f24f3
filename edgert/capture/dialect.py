"""Whose messages an endpoint speaks: how a request is read, and what its sender takes for an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from edgert.capture.answers import Outbox, Requester
from edgert.capture.message import PayloadReader, SequenceGaps, is_json, parse_header
from edgert.capture.options import SourceOptions
from edgert.capture.source import Captured
from edgert.errors import FrameError
from edgert.frames.slots import Slot


class Dialect(Protocol):
    """Reads the messages of one endpoint. For the thread that reads the source."""

    def requester(self, outbox: Outbox, envelope: list[bytes]) -> Requester:
        """Return who waits for the answer to a message that came in this envelope."""

    def unpack(
        self, parts: Sequence[memoryview], slot: Slot | None, requester: Requester | None
    ) -> Captured | None:
        """Put a message's frame into `slot`. None: it has no frame, and is answered.

        Raises FrameError; the requester is then still to be told.
        """

    def close(self) -> None:
        """Free everything."""


class EdgertDialect:
    """edgert's own messages: header and payload. `counts` gets the gaps that a SUB sees."""

    def __init__(
        self, name: str, options: SourceOptions, payloads: PayloadReader, counts: Counter[str]
    ) -> None:
        self._name = name
        self._payloads = payloads
        self._counts = counts
        self._gaps = SequenceGaps() if options.spec().socket == "sub" else None

    def requester(self, outbox: Outbox, envelope: list[bytes]) -> Requester:
        """Return who waits."""
        return Requester(outbox, self._name, envelope)

    def unpack(
        self, parts: Sequence[memoryview], slot: Slot | None, requester: Requester | None
    ) -> Captured | None:
        """Put the frame into `slot`. Raises FrameError."""
        if len(parts) != 2:
            said = "more than 2" if len(parts) > 2 else len(parts)
            raise FrameError(f"A message has {said} parts; expected 2, header and payload.")
        header = parse_header(parts[0])
        if requester is not None:
            requester.identify(header.id, header.model, is_json=is_json(parts[0]))
        if self._gaps is not None:
            self._counts["gap"] += self._gaps.missed(header.source, header.seq)
        pixel_format, height, width = self._payloads.read_into(header, parts[1], slot)
        return Captured(pixel_format, height, width, 0, header.captured_utc_ns, header.model, requester)

    def close(self) -> None:
        """Close the shared memory objects."""
        self._payloads.close()
