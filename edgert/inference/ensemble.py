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
    ClosedError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from edgert.frames.request import InferRequest, InferResponse
from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.ensemble_run import EnsembleRun, only
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
        return only(self.pools_of(name))

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
        except (UnknownModelError, UnavailableError):  # the step will say so, if it is so then
            return None
