"""The frames that choices are made by: read and prepared once, if together they are small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgert.calibrate.compare.trial import TrialFrame
from edgert.calibrate.sample.sample_set import SampleFrame

HELD_BYTES = 64 << 20  # of tensors; of more than that each pass reads the files again

Prepare = Callable[[Sequence[SampleFrame]], Iterator[TrialFrame]]


class HeldFrames:
    """Frames to go through several times. One pass at a time."""

    def __init__(self, prepare: Prepare, samples: Sequence[SampleFrame]) -> None:
        self._prepare = prepare
        self._samples = samples
        self._held: list[TrialFrame] = []

    def __iter__(self) -> Iterator[TrialFrame]:
        """Yield all frames. Raises ConfigError, ModelError."""
        yield from self._held
        for index, frame in enumerate(self._prepare(self._samples[len(self._held) :]), len(self._held)):
            if len(self._held) == index and frame.tensor.nbytes * len(self._samples) <= HELD_BYTES:
                self._held.append(frame)
            yield frame
