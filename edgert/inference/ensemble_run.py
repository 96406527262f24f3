"""One request on its way through the steps of an ensemble."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edgert.device.handed import HandedPool
from edgert.errors import CancelledError, EdgertError, ModelError, UnavailableError, UnknownModelError
from edgert.frames.request import InferRequest, InferResponse, KeptOutputs
from edgert.inference.run_tensors import Made, RunTensors, made_by
from edgert.models.model_config import EnsembleStep

if TYPE_CHECKING:
    from edgert.inference.ensemble import ServedEnsemble


class EnsembleRun:
    """One request on its way through the steps. Steps answer on any thread, several at once."""

    def __init__(
        self, ensemble: ServedEnsemble, request: InferRequest, rows: int, wanted: tuple[str, ...]
    ) -> None:
        self._ensemble = ensemble
        self._request = request
        self._rows = rows
        self._wanted = wanted
        self._tensors = RunTensors(request.inputs, ensemble.steps, wanted)
        self._absent = ensemble.optional - request.inputs.keys()
        self._left = list(ensemble.steps)  # steps that have not begun
        self._under_way = 0
        self._error: EdgertError | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the first steps."""
        with self._lock:
            ready = self._take_ready()
        if ready:
            self._go_on(ready)
        else:  # it was cancelled before
            self._end()

    def step_done(self, step: EnsembleStep, response: InferResponse, made: Made = ({}, {})) -> None:
        """Keep what a step has made, and start the steps that waited for it."""
        with self._lock:  # once: else the last two steps could both find that they are the last
            self._under_way -= 1
            self._error = self._error or response.error
            self._tensors.done(step, made)
            ready = self._take_ready()
            is_over = not self._under_way
        if is_over:
            self._end()
        self._go_on(ready)

    def _go_on(self, ready: list[EnsembleStep]) -> None:
        for step in ready:
            try:
                self._ensemble.send(step, self._step_request(step))
            except EdgertError as error:
                self.step_done(step, InferResponse(step.model, 0, error=error))

    def _take_ready(self) -> list[EnsembleStep]:
        """Return the steps to start now, counted as under way. The lock is held."""
        if self._request.is_cancelled and self._left:
            self._error = self._error or CancelledError("The request was cancelled.")
        if self._error is not None:
            self._left.clear()
        there = self._absent.union(self._tensors.names)
        ready = [step for step in self._left if there >= set(step.inputs.values())]
        self._left = [step for step in self._left if step not in ready]
        self._under_way += len(ready)
        return ready

    def _step_request(self, step: EnsembleStep) -> InferRequest:
        request = self._request
        kept = self._kept(step)
        with self._lock:
            inputs = self._tensors.inputs(step)
        return InferRequest(
            model=step.model,
            version=max(step.version, 0),
            inputs=inputs,
            outputs=tuple(step.outputs),
            kept=kept,
            responder=StepResponder(self, step, kept),
            id=request.id,
            priority=request.priority,
            timeout_us=request.timeout_us,
            sequence=request.sequence,
            parameters=request.parameters,
        )

    def _kept(self, step: EnsembleStep) -> KeptOutputs | None:
        """Return which outputs of a step stay where: on the one device on which all read them who read them.

        The answer has an array of those that it wants, unless who sent the request reads them there too.
        """
        outer, places, shown = self._request.kept, {}, []
        for own, name in step.outputs.items():
            pools, is_wanted = self._ensemble.pools_of(name), name in self._wanted
            if is_wanted and outer is not None and name in outer.places:
                pools.add(outer.places[name])
                is_wanted = name in outer.shown
            if (pool := only(pools)) is not None:
                places[own] = pool
                shown += [own] * is_wanted
        return KeptOutputs(places, shown) if places else None

    def _end(self) -> None:
        name, version, request = self._ensemble.name, self._ensemble.version, self._request
        response = InferResponse(name, version, request.id)
        missing = [tensor for tensor in self._wanted if tensor not in self._tensors.names]
        if self._error is not None:
            response.error = _told_of(name, self._error)
        elif missing:
            response.error = ModelError(f"in ensemble '{name}', no step gave {', '.join(missing)}")
        else:
            response.outputs = self._tensors.answer(dict.fromkeys(self._wanted), request.kept)
        self._tensors.close()
        self._ensemble.end(request, self._rows, response)


class StepResponder:
    """Where a step's model answers, once: what is decoupled since its reload is no good."""

    def __init__(self, run: EnsembleRun, step: EnsembleStep, kept: KeptOutputs | None) -> None:
        self._run = run
        self._step = step
        self._kept = kept
        self._is_decoupled = False

    def respond(self, response: InferResponse) -> None:
        """Take the step's answer."""
        self._is_decoupled = self._is_decoupled or not response.is_final
        if not response.is_final:
            return
        if self._is_decoupled and response.error is None:
            error = ModelError(f"'{response.model}' is decoupled; a step's model answers each request once")
            response = InferResponse(response.model, response.version, error=error)
        self._run.step_done(self._step, response, made_by(self._step, response, self._kept))


def only(pools: set[HandedPool | None]) -> HandedPool | None:
    """Return the one pool that all read from; None where they differ, or one reads arrays."""
    return next(iter(pools)) if len(pools) == 1 else None


def _told_of(ensemble: str, error: EdgertError) -> EdgertError:
    """Return the error with the ensemble's name before it, of the same kind.

    But a step's model that is not served is not what the client has named.
    """
    kind = UnavailableError if isinstance(error, UnknownModelError) else type(error)
    told = kind(f"in ensemble '{ensemble}', {error}")
    told.__cause__ = error
    return told
