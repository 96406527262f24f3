"""What the pipeline asks of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgert.frames.placement import Placement
from edgert.frames.result import Array, Output


class Decoder(Protocol):
    """Reads one frame's outputs. Stateless: several threads may call at once."""

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Output:
        """Return the output in source pixels.

        `outputs` holds this frame's part of each output tensor, without the batch axis; the arrays
        belong to the lane and are only valid during the call.
        """
