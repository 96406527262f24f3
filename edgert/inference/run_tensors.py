"""The tensors of one request on its way through an ensemble: arrays, or left on a device by a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import cast

import numpy as np

from edgert.device.handed import HandedTensor
from edgert.frames.request import InferResponse, KeptOutputs
from edgert.frames.result import Array
from edgert.models.model_config import EnsembleStep

Made = tuple[Mapping[str, Array], Mapping[str, HandedTensor]]


class RunTensors:
    """Tensors by the ensemble's names, each until the last step that reads it is done. One thread at a time.

    What is on a device goes back to its pool then: the step has answered, so its batch, which has read it, is
    done. Those of the request itself belong to who sent it.
    """

    def __init__(
        self, given: Mapping[str, Array], steps: Iterable[EnsembleStep], wanted: Collection[str]
    ) -> None:
        self._arrays = dict(given)
        self._handed: dict[str, HandedTensor] = {}  # some are arrays as well, for the answer
        self._readers = Counter(name for step in steps for name in set(step.inputs.values()))
        self._readers.update(wanted)

    @property
    def names(self) -> set[str]:
        """Those that are there."""
        return self._arrays.keys() | self._handed.keys()

    def inputs(self, step: EnsembleStep) -> Mapping[str, Array]:
        """Return a step's inputs; what is on a device looks like an array to who checks and batches it."""
        there = {**self._arrays, **self._handed}
        inputs = {own: there[name] for own, name in step.inputs.items() if name in there}
        return cast("Mapping[str, Array]", inputs)

    def done(self, step: EnsembleStep, made: Made) -> None:
        """Take what a step has made, let go what it was the last to read."""
        arrays, handed = made
        self._arrays.update(arrays)
        self._handed.update(handed)
        for name in set(step.inputs.values()):
            self._readers[name] -= 1
            if not self._readers[name]:
                self._let_go(name)

    def answer(self, wanted: Iterable[str], kept: KeptOutputs | None) -> dict[str, Array]:
        """Return the arrays among the wanted tensors; what is to stay on the device goes into `kept`."""
        for name in kept.places if kept is not None else ():
            if kept is not None and name in self._handed:
                kept.tensors[name] = self._handed.pop(name)
        return {name: self._arrays[name] for name in wanted if name in self._arrays}

    def close(self) -> None:
        """Let all go that is left."""
        for name in self.names:
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._arrays.pop(name, None)
        tensor = self._handed.pop(name, None)
        if tensor is not None:
            tensor.release()


def made_by(step: EnsembleStep, response: InferResponse, kept: KeptOutputs | None) -> Made:
    """Return a step's outputs by the ensemble's names: copies of arrays, and what stayed on the device.

    The lane takes its memory back: were it held until the next step has read it, two models that wait for
    each other's memory would wait for ever.
    """
    there = kept.tensors if kept is not None else {}
    if response.error is not None:
        for tensor in there.values():
            tensor.release()
        return {}, {}
    names = step.outputs
    arrays = {names[own]: np.array(array) for own, array in response.outputs.items() if own in names}
    return arrays, {names[own]: tensor for own, tensor in there.items()}
