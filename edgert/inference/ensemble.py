"""Models that hand tensors to each other: a request runs every step as soon as its inputs are there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar

import numpy as np

from edgert.errors import (
    CancelledError,
    ClosedError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from edgert.frames.request import InferRequest, InferResponse
from edgert.frames.result import Array
from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.signature import Signature
from edgert.models.model_config import EnsembleStep, ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.serve.core import ModelStatistics
from edgert.serve.options import Metric
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

Infer = Callable[[InferRequest], None]


class ServedEnsemble:
    """A ServedVersion without lanes of its own. `infer` reaches the models of its steps."""

    live: ClassVar[LiveCount] = LiveCount("served ensemble")

    def __init__(
        self,
        name: str,
        version: int,
        config: ModelConfig,
        infer: Infer,
        metrics: Collection[Metric] = (),
    ) -> None:
        if config.ensemble is None:
            raise ModelError(f"{config.file}: field ensemble_scheduling: not given, expected the steps")
        self.name = name
        self.version = version
        self.config = config
        self.steps = config.ensemble.steps
        self.optional = frozenset(tensor.name for tensor in config.inputs if tensor.optional)
        self._step_infer = infer
        self._signature = Signature(name, config)
        self.counts = Counts(name, version, metrics)
        self._is_open = True
        self._running = 0
        self._lock = threading.Lock()
        self.live.opened()

    def infer(self, request: InferRequest) -> None:
        """Begin with the steps that need only the request's inputs. Raises RequestError, ClosedError."""
        request.arrived_mono_ns = request.arrived_mono_ns or time.monotonic_ns()
        try:
            rows = self._signature.check(request).rows
        except RequestError as error:
            self.counts.failed(request.arrived_mono_ns, error)
            raise
        with self._lock:
            if not self._is_open:
                raise ClosedError(f"Model '{self.name}' takes no more requests.")
            self._running += 1
        EnsembleRun(self, request, rows, self._signature.wanted(request)).begin()

    def statistics(self) -> ModelStatistics:
        """Return counts; queue and lanes are those of the steps' models."""
        return self.counts.snapshot()

    def pulses(self, hang_s: float) -> Iterable[Pulse]:
        """Return none: the lanes are those of the steps' models."""
        return ()

    @property
    def is_idle(self) -> bool:
        """Every request has had its final response."""
        return not self._running

    def refuse(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._is_open = False

    def give_up(self) -> None:
        """Do nothing: the models of the steps answer what is under way."""

    def close(self) -> None:
        """Count one less."""
        self.live.closed()

    def send(self, step: EnsembleStep, request: InferRequest) -> None:
        """Hand a step's request to its model. Raises EdgertError."""
        self._step_infer(request)

    def end(self, request: InferRequest, rows: int, response: InferResponse) -> None:
        """Count a request and answer it."""
        arrived_ns = request.arrived_mono_ns
        if response.error is not None:
            self.counts.failed(arrived_ns, response.error)
        else:
            times = BatchTimes(arrived_ns, 0, time.monotonic_ns() - arrived_ns, 0)
            self.counts.batch(rows, times)
            self.counts.answered(rows, arrived_ns, times)
        try:
            request.responder.respond(response)
        except Exception:  # a front that fails must not take with it who answers
            log.exception("model %s: a response could not be handed over", self.name)
        finally:
            with self._lock:
                self._running -= 1


class EnsembleRun:
    """One request on its way through the steps. Steps answer on any thread, several at once."""

    def __init__(
        self, ensemble: ServedEnsemble, request: InferRequest, rows: int, wanted: tuple[str, ...]
    ) -> None:
        self._ensemble = ensemble
        self._request = request
        self._rows = rows
        self._wanted = wanted
        self._tensors: dict[str, Array] = dict(request.inputs)
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

    def step_done(self, step: EnsembleStep, response: InferResponse) -> None:
        """Keep a step's outputs, and start the steps that waited for them."""
        kept = {} if response.error else _kept(step, response.outputs)
        with self._lock:  # once: else the last two steps could both find that they are the last
            self._under_way -= 1
            self._error = self._error or response.error
            self._tensors.update(kept)
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
        there = self._tensors.keys() | self._absent
        ready = [step for step in self._left if there >= set(step.inputs.values())]
        self._left = [step for step in self._left if step not in ready]
        self._under_way += len(ready)
        return ready

    def _step_request(self, step: EnsembleStep) -> InferRequest:
        request = self._request
        return InferRequest(
            model=step.model,
            version=max(step.version, 0),
            inputs={own: self._tensors[name] for own, name in step.inputs.items() if name in self._tensors},
            outputs=tuple(step.outputs),
            responder=StepResponder(self, step),
            id=request.id,
            priority=request.priority,
            timeout_us=request.timeout_us,
            sequence=request.sequence,
            parameters=request.parameters,
        )

    def _end(self) -> None:
        name, version, request = self._ensemble.name, self._ensemble.version, self._request
        response = InferResponse(name, version, request.id)
        missing = [tensor for tensor in self._wanted if tensor not in self._tensors]
        if self._error is not None:
            response.error = _told_of(name, self._error)
        elif missing:
            response.error = ModelError(f"in ensemble '{name}', no step gave {', '.join(missing)}")
        else:
            response.outputs = {tensor: self._tensors[tensor] for tensor in self._wanted}
        self._ensemble.end(request, self._rows, response)


class StepResponder:
    """Where a step's model answers."""

    def __init__(self, run: EnsembleRun, step: EnsembleStep) -> None:
        self._run = run
        self._step = step

    def respond(self, response: InferResponse) -> None:
        """Take the step's answer."""
        self._run.step_done(self._step, response)


def _kept(step: EnsembleStep, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of a step's outputs by the ensemble's names; the lane takes its memory back.

    A lane's memory is not held until the next step has read it: two models that wait for each other's
    memory would wait for ever.
    """
    return {name: np.array(outputs[own]) for own, name in step.outputs.items() if own in outputs}


def _told_of(ensemble: str, error: EdgertError) -> EdgertError:
    """Return the error with the ensemble's name before it, of the same kind.

    But a step's model that is not served is not what the client has named.
    """
    kind = UnavailableError if isinstance(error, UnknownModelError) else type(error)
    told = kind(f"in ensemble '{ensemble}', {error}")
    told.__cause__ = error
    return told
