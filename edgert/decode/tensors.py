"""Outputs as they are, for everything that no other decoder reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgert.config import Options
from edgert.decode.outputs import Shapes, only_output
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Tensors


class TensorsOptions(Options, frozen=True, kw_only=True, tag_field="kind", tag="tensors"):
    """Also what a model without a `[decode]` table gets."""

    outputs: tuple[str, ...] = ()  # only these; empty: all


class TensorsDecoder:
    """Copies a frame's part of each output out of the lane."""

    def __init__(self, options: TensorsOptions, labels: Sequence[str], shapes: Shapes) -> None:
        """Raises ModelError for an output that the engine does not have. Labels are not used."""
        self._names = tuple(only_output(shapes, name) for name in options.outputs) or tuple(shapes)

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Tensors:
        """Return copies."""
        return Tensors({name: outputs[name].copy() for name in self._names})
