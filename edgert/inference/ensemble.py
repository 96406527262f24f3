"""Models that hand tensors to each other: a request runs every step as soon as its inputs are there."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar

from edgert.device.handed import HandedPool, HandedPools
from edgert.errors import (
    CancelledError,
    ClosedError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from edgert.frames.request import InferRequest, InferResponse, KeptOutputs
from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.run_tensors import Made, RunTensors, made_by
from edgert.inference.served_version import ServedVersion
from edgert.inference.signature import Signature
from edgert.models.model_config import EnsembleStep, ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.serve.core import ModelStatistics
from edgert.serve.options import Metric
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

Infer = Callable[[InferRequest], None]
Find = Callable[[str, int], ServedVersion]  # raises UnknownModelError


class ServedEnsemble:
    """A ServedVersion without lanes of its own. `infer` reaches the models of its steps.

    A tensor that all its readers read on one device stays there, if the lane that makes it is there too:
    `find` knows them. Without, all tensors go through the host.
    """

    live: ClassVar[LiveCount] = LiveCount("served ensemble")

    def __init__(
        self,
        name: str,
        version: int,
        config: ModelConfig,
        infer: Infer,
        metrics: Collection[Metric] = (),
        find: Find | None = None,
        pools: HandedPools | None = None,
    ) -> None:
        """`pools` keep memory as long as there are ensembles."""
        if config.ensemble is None:
            raise ModelError(f"{config.file}: field ensemble_scheduling: not given, expected the steps")
        self.name = name
        self.version = version
        self.config = config
        self.steps = config.ensemble.steps
        self.optional = frozenset(tensor.name for tensor in config.inputs if tensor.optional)
        self._step_infer = infer
        self._find = find
        self._pools = pools
        self._readers: defaultdict[str, list[tuple[EnsembleStep, str]]] = defaultdict(list)
        for step in self.steps:
            for own, tensor in step.inputs.items():
                self._readers[tensor].append((step, own))
        self._signature = Signature(name, config)
        self.counts = Counts(name, version, metrics)
        self._is_open = True
        self._running = 0
        self._lock = threading.Lock()
        if pools is not None:
            pools.join()
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

    def pool_of(self, name: str) -> HandedPool | None:
        """Return the pool of the one device on which the steps read an input; None: not there, or arrays."""
        return _only(self.pools_of(name))

    def pools_of(self, name: str) -> set[HandedPool | None]:
        """Return where the steps read a tensor; None among them: as arrays."""
        return {self._pool_in(step, own) for step, own in self._readers.get(name, ())}

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
        if self._pools is not None:
            self._pools.leave()
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

    def _pool_in(self, step: EnsembleStep, own: str) -> HandedPool | None:
        if self._find is None:
            return None
        try:
            return self._find(step.model, max(step.version, 0)).pool_of(own)
        except UnknownModelError:  # the step will say so
            return None


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
        return InferRequest(
            model=step.model,
            version=max(step.version, 0),
            inputs=self._tensors.inputs(step),
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
            if (pool := _only(pools)) is not None:
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
    """Where a step's model answers."""

    def __init__(self, run: EnsembleRun, step: EnsembleStep, kept: KeptOutputs | None) -> None:
        self._run = run
        self._step = step
        self._kept = kept

    def respond(self, response: InferResponse) -> None:
        """Take the step's answer."""
        self._run.step_done(self._step, response, made_by(self._step, response, self._kept))


def _only(pools: set[HandedPool | None]) -> HandedPool | None:
    return next(iter(pools)) if len(pools) == 1 else None


def _told_of(ensemble: str, error: EdgertError) -> EdgertError:
    """Return the error with the ensemble's name before it, of the same kind.

    But a step's model that is not served is not what the client has named.
    """
    kind = UnavailableError if isinstance(error, UnknownModelError) else type(error)
    told = kind(f"in ensemble '{ensemble}', {error}")
    told.__cause__ = error
    return told
