"""The models that are loaded, by name and version. Every change is whole or does not happen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from edgert.errors import ClosedError, EdgertError, ModelError
from edgert.models.store import ModelVersion
from edgert.pipeline.loaded_model import LoadedModel
from edgert.pipeline.model_plan import ModelPlan
from edgert.schedule.batcher import Batcher, Drop
from edgert.schedule.scheduler import Scheduler

log = logging.getLogger(__name__)

RETIRE_S = 30.0  # how long a version that was replaced may take for what it was given
LAST_BATCH_S = 0.5  # how long a batch in flight may take when there is no time left

OpenModel = Callable[[ModelPlan, ModelVersion], LoadedModel]


class ModelState(msgspec.Struct, frozen=True):
    """What subscribers are told of a model; words of the Inference Server."""

    state: str  # LOADING, READY, UNAVAILABLE
    versions: tuple[int, ...] = ()
    reason: str = ""


class ModelSet:
    """Loads and unloads while frames flow. `on_state` hears of every change."""

    def __init__(
        self,
        scheduler: Scheduler,
        open_model: OpenModel,
        attach: Callable[[LoadedModel], None],
        on_drop: Drop,
        on_state: Callable[[str, ModelState], None],
    ) -> None:
        self._scheduler = scheduler
        self._open_model = open_model
        self._attach = attach
        self._on_drop = on_drop
        self._on_state = on_state
        self._current: dict[str, LoadedModel] = {}
        self._change = threading.Lock()
        self._is_closed = False
        self.states: dict[str, ModelState] = {}
        self.loading = ""  # what is being opened just now; empty if nothing is
        self.loads = 0  # versions whose opening has begun or ended

    def get(self, reference: str) -> LoadedModel | None:
        """Return the model for `name` (its newest loaded version) or `name/version`. Any thread."""
        return self._current.get(reference)

    def loaded(self) -> list[LoadedModel]:
        """Return every loaded version once."""
        return [model for reference, model in self._current.items() if "/" in reference]

    def load(self, plan: ModelPlan, retire_s: float = RETIRE_S) -> None:
        """Load the chosen versions, warm them, then let them take the place of those loaded before.

        Frames admitted before the change are answered by the old versions, which then go. If a
        version cannot be loaded, everything stays as it was.

        Raises:
            ModelError, ConfigError, OutOfDeviceMemoryError: as `open_model` says.
            ClosedError: the set was closed.
        """
        name = plan.entry.name
        with self._change:
            self._demand_open()
            self._report(name, "LOADING", "")
            try:
                models = self._open_all(plan)
            except EdgertError as error:
                self._report(name, "READY" if name in self._current else "UNAVAILABLE", str(error))
                raise
            self._switch(name, models, retire_s)

    def unload(self, name: str, timeout_s: float = RETIRE_S) -> None:
        """Refuse new frames for a model, let those admitted finish, free it."""
        with self._change:
            self._switch(name, [], timeout_s)

    def set_score_min(self, name: str, score_min: float) -> None:
        """Change the least score of a model's results, in all its versions, until it is loaded again.

        Waits for a load or unload that runs.

        Raises:
            ModelError: it is not loaded, or its decoder knows no scores.
        """
        with self._change:
            versions = [model for model in self.loaded() if model.name == name]
            if not versions:
                raise ModelError(f"Model {name!r} is not loaded.")
            for model in versions:
                model.set_score_min(score_min)

    def close(self, timeout_s: float = RETIRE_S) -> None:
        """Unload every model within `timeout_s` in all, and load no more.

        A load that runs just now is not waited for longer than that; it ends with the process.
        """
        self._is_closed = True
        deadline = time.monotonic() + timeout_s
        if not self._change.acquire(timeout=timeout_s):
            log.error("a model is still being loaded; it is left behind")
            return
        try:
            for name in [reference for reference in self._current if "/" not in reference]:
                self._switch(name, [], max(0.0, deadline - time.monotonic()))
        finally:
            self._change.release()

    def is_idle(self) -> bool:
        """No frame waits, runs or is being decoded."""
        return self._scheduler.between_batches(lambda: all(model.is_idle for model in self.loaded()))

    def _open_all(self, plan: ModelPlan) -> list[LoadedModel]:
        with ExitStack() as undo:
            models = []
            for version in plan.entry.chosen_versions():
                started = time.monotonic()
                with self._seen_loading(f"model {plan.entry.name} version {version.number}"):
                    model = self._open_model(plan, version)
                undo.callback(model.close)
                models.append(model)
                took_s = time.monotonic() - started
                lanes = len(model.lanes)
                log.info(
                    "model %s version %d loaded in %.2f s, %d lanes",
                    model.name,
                    version.number,
                    took_s,
                    lanes,
                )
            self._demand_open()
            undo.pop_all()
            return models

    @contextmanager
    def _seen_loading(self, what: str) -> Iterator[None]:
        """Let others see what is being opened, so that they can tell slow from hung."""
        self.loading, self.loads = what, self.loads + 1
        try:
            yield
        finally:
            self.loading, self.loads = "", self.loads + 1

    def _demand_open(self) -> None:
        if self._is_closed:
            raise ClosedError("No model is loaded any more: the service stops.")

    def _switch(self, name: str, models: list[LoadedModel], timeout_s: float = RETIRE_S) -> None:
        """Let `models` take the place of what is loaded. Nothing raises once frames go to them."""
        old = [model for model in self.loaded() if model.name == name]
        for model in models:
            model.batcher = Batcher(model.policy, self._on_drop, model.batch_key)
            model.on_done = self._scheduler.wake if model.is_driven else self._scheduler.look_now
            self._attach(model)
            self._scheduler.add(model)
        kept = {ref: model for ref, model in self._current.items() if ref.partition("/")[0] != name}
        added = {f"{name}/{model.version}": model for model in models}
        newest = {name: models[-1]} if models else {}
        self._current = {**kept, **added, **newest}
        self._report(name, "READY" if models else "UNAVAILABLE", "" if models else "unloaded")
        deadline = time.monotonic() + timeout_s
        for model in old:
            self._retire(model, deadline)

    def _retire(self, model: LoadedModel, deadline: float) -> None:
        """Let a model that gets no more frames finish until `deadline`, drop the rest, free it.

        A batch that never ends is left behind with its lane and memory: waiting for it would stop
        everything else.
        """
        model.batcher.close()
        self._scheduler.wake()
        if not self._wait_idle(model, deadline):
            model.batcher.drop_all("unloaded")
        if not self._wait_idle(model, max(deadline, time.monotonic() + LAST_BATCH_S)):
            log.error(
                "model %s version %d does not finish its batch; it is left behind", model.name, model.version
            )
            return
        self._scheduler.remove(model)
        model.close()
        log.info("model %s version %d freed", model.name, model.version)

    def _wait_idle(self, model: LoadedModel, deadline: float) -> bool:
        while not self._scheduler.between_batches(lambda: model.is_idle):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _report(self, name: str, state: str, reason: str) -> None:
        versions = tuple(model.version for model in self.loaded() if model.name == name)
        self.states[name] = ModelState(state, versions, reason)
        self._on_state(name, self.states[name])
