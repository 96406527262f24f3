"""What the pipeline asks of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from edgert.frames.placement import Placement
from edgert.frames.result import Array, Output


class Decoder(Protocol):
    """Reads one frame's outputs. Several threads may call at once; nothing is kept between calls."""

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Output:
        """Return the output in source pixels.

        `outputs` holds this frame's part of each output tensor, without the batch axis; the arrays
        belong to the lane and are only valid during the call.
        """


class ScoreLimited:
    """A decoder that leaves out what scores below its options' `score_min`, even if that changes."""

    _options: Any  # a frozen struct; read it once in each `decode`

    def set_score_min(self, score_min: float) -> None:
        """Let the limit hold for every `decode` that begins from now on. Any thread."""
        self._options = msgspec.structs.replace(self._options, score_min=score_min)
