"""Who hears of what happens in a pipeline."""

from __future__ import annotations

from typing import Protocol

from edgert.capture.state import SourceState
from edgert.errors import DeviceLostError
from edgert.pipeline.model_set import ModelState


class Observer(Protocol):
    """Hears of changes, on the thread that made them."""

    def source_changed(self, source: str, state: SourceState, reason: str) -> None:
        """A source changed its state."""

    def model_changed(self, model: str, state: ModelState) -> None:
        """A model was loaded, unloaded, or could not be."""

    def device_lost(self, error: DeviceLostError) -> None:
        """The device no longer answers; only a new process helps."""
