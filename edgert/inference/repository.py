"""Which versions are served. Every change is whole or does not happen."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from edgert.errors import ClosedError, EdgertError, UnavailableError, UnknownModelError
from edgert.inference.served_version import ServedVersion
from edgert.models.store import ModelEntry, ModelVersion
from edgert.serve.core import IndexEntry

log = logging.getLogger(__name__)

RETIRE_S = 30.0  # how long a version that was replaced may take for what it was given
LAST_BATCH_S = 0.5  # how long a batch in flight may take when there is no time left
LOOK_S = 0.005

OpenVersion = Callable[[ModelEntry, ModelVersion], ServedVersion]
States = dict[int, "VersionState"]


class VersionState(msgspec.Struct, frozen=True):
    """What clients are told of a version, in the Inference Server's words."""

    state: str  # LOADING, READY, UNLOADING, UNAVAILABLE
    reason: str = ""


class Repository:
    """Loads and unloads while requests come. Any thread may ask; changes wait for each other."""

    def __init__(self, open_version: OpenVersion, retire_s: float = RETIRE_S) -> None:
        self._open_version = open_version
        self._retire_s = retire_s
        self._served: Mapping[str, Mapping[int, ServedVersion]] = {}
        self._states: dict[str, States] = {}
        self._change = threading.Lock()
        self._retiring: list[threading.Thread] = []
        self._is_closed = False
        self._end_by = math.inf  # when everything has to be over
        self.is_coming: Callable[[str], bool] = lambda _: False  # will a model that is not known be loaded?
        self.loading = ""  # what is being opened just now; empty if nothing is
        self.loads = 0  # versions whose opening has begun or ended
        self.has_lost_work = False  # what was given to a version is not answered, as `close` had no more time

    def get(self, model: str, version: int = 0) -> ServedVersion:
        """Return a version that is served; 0 is the newest, below is one that there cannot be.

        Raises:
            UnavailableError: it is being loaded or will soon be, and was not served before.
            UnknownModelError: neither.
        """
        versions = self._served.get(model)
        found = versions.get(version or max(versions)) if versions else None
        if found is not None:
            return found
        if self._is_loading(model, version) or (model not in self._states and self.is_coming(model)):
            raise UnavailableError(f"Model '{model}' is loading; ask again in a while.")
        if versions:
            number = max(version, 0)
            raise UnknownModelError(f"Request for unknown model: '{model}' version {number} is not found")
        what = "has no available versions" if model in self._states else "is not found"
        raise UnknownModelError(f"Request for unknown model: '{model}' {what}")

    def versions(self, model: str = "") -> list[ServedVersion]:
        """Return what is served of a model, or of all, ascending."""
        chosen = (
            [self._served.get(model, {})] if model else [self._served[name] for name in sorted(self._served)]
        )
        return [versions[number] for versions in chosen for number in sorted(versions)]

    def lacking(self, served: ServedVersion) -> str:
        """Return a model that a version hands requests to and that is not served; empty if there is none."""
        for step in served.config.ensemble.steps if served.config.ensemble else ():
            versions = self._served.get(step.model, {})
            own = versions.get(step.version if step.version > 0 else max(versions, default=0))
            if lacking := step.model if own is None else self.lacking(own):
                return lacking
        return ""

    def is_known(self, model: str) -> bool:
        """Say whether the model was loaded once, or tried to be."""
        return model in self._states

    def load(self, entry: ModelEntry) -> None:
        """Open the versions that the policy chooses; then they take the place of what is served.

        Requests that were taken before are answered by the old versions, which then go. If a version
        cannot be opened, everything stays as it was.

        Raises:
            ModelError, ConfigError, OutOfDeviceMemoryError: as `open_version` says.
            ClosedError: the repository was closed.
        """
        with self._change:
            self._demand_open()
            try:
                opened = self._open_all(entry)
            except BaseException as error:  # else it would be loading for ever
                self._note_failure(entry.name, str(error))
                raise
            self._switch(entry.name, {served.version: served for served in opened})

    def unload(self, model: str, *, waits: bool = False) -> None:
        """Refuse further requests; what was taken is answered, then the model goes.

        Returns at once, or with `waits` when it has gone.
        """
        thread = None
        with self._change:
            self._demand_open()
            if model in self._served:
                thread = self._switch(model, {})
                self._name_dependents(model)
        if waits and thread is not None:
            thread.join()

    def fail(self, model: str, reason: str) -> None:
        """Note that a model could not even be read."""
        with self._change:
            self._note_failure(model, reason)

    def index(self, names: Sequence[str], *, only_ready: bool = False) -> list[IndexEntry]:
        """Return the versions of `names` and of all that was ever loaded, with their states."""
        found = []
        for name in sorted({*names, *self._states}):
            states = {
                number: self._seen(name, number, state)
                for number, state in dict(self._states.get(name, {})).items()
            }
            found += [
                IndexEntry(name, str(number) if number else "", state.state, state.reason)
                for number, state in sorted(states.items())
            ] or [IndexEntry(name)]
        return [entry for entry in found if not only_ready or entry.state == "READY"]

    def close(self, timeout_s: float = RETIRE_S) -> None:
        """Unload every model within `timeout_s`, and load no more. Allowed again.

        A load that runs just now is not waited for longer than that; it ends with the process.
        """
        self._is_closed = True
        self._end_by = min(self._end_by, time.monotonic() + timeout_s)
        if not self._change.acquire(timeout=timeout_s):
            log.error("a model is still being loaded; it is left behind")
            return
        try:
            for model in list(self._served):
                self._switch(model, {})
        finally:
            self._change.release()
        for thread in self._retiring:
            thread.join()

    def _seen(self, model: str, number: int, state: VersionState) -> VersionState:
        """Return a version's state as clients find it: an ensemble needs the models of its steps."""
        served = self._served.get(model, {}).get(number)
        if state.state != "READY" or served is None or not (lacking := self.lacking(served)):
            return state
        return VersionState("UNAVAILABLE", f"needs '{lacking}', which is not loaded")

    def _name_dependents(self, model: str) -> None:
        for served in self.versions():
            if self.lacking(served) == model:
                log.warning("model %s answers no more: it needs %s, which was unloaded", served.name, model)

    def _is_loading(self, model: str, version: int) -> bool:
        states = self._states.get(model, {}).copy()
        return any(state.state == "LOADING" and version in (0, number) for number, state in states.items())

    def _demand_open(self) -> None:
        if self._is_closed:
            raise ClosedError("No model is loaded any more: the service stops.")

    def _open_all(self, entry: ModelEntry) -> list[ServedVersion]:
        states = self._states.setdefault(entry.name, {})
        with ExitStack() as undo:
            opened = []
            for version in entry.chosen_versions():
                if states.get(version.number, VersionState("")).state != "READY":
                    states[version.number] = VersionState("LOADING")
                began = time.monotonic()
                with self._seen_loading(f"model {entry.name} version {version.number}"):
                    served = self._open_version(entry, version)
                undo.callback(served.close)
                opened.append(served)
                took_s = time.monotonic() - began
                log.info("model %s version %d loaded in %.2f s", entry.name, version.number, took_s)
            self._demand_open()
            undo.pop_all()
            return opened

    @contextmanager
    def _seen_loading(self, what: str) -> Iterator[None]:
        """Let others see what is being opened, so that they can tell slow from hung."""
        self.loading, self.loads = what, self.loads + 1
        try:
            yield
        finally:
            self.loading, self.loads = "", self.loads + 1

    def _note_failure(self, model: str, reason: str) -> None:
        """Note why a model is not there, or not as its files say now; what is served stays."""
        served = self._served.get(model, {})
        states = self._states.setdefault(model, {})
        for number in [number for number in states if number not in served]:
            states[number] = VersionState("UNAVAILABLE", reason)
        if not states:
            states[0] = VersionState("UNAVAILABLE", reason)
        log.error("model %s: %s%s", model, reason, "; what was loaded goes on" if served else "")

    def _switch(self, model: str, versions: dict[int, ServedVersion]) -> threading.Thread | None:
        """Let `versions` take the place of what is served; return what ends that. Nothing raises."""
        old = self._served.get(model, {})
        kept = {name: own for name, own in self._served.items() if name != model}
        self._served = {**kept, model: versions} if versions else kept
        gone = {number: VersionState("UNLOADING") for number in old if number not in versions}
        self._states[model] = gone | {number: VersionState("READY") for number in versions}
        for served in old.values():
            served.refuse()
        return self._retire(model, list(old.values())) if old else None

    def _retire(self, model: str, old: list[ServedVersion]) -> threading.Thread:
        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        thread = threading.Thread(target=self._end_all, args=(model, old), name="retire", daemon=True)
        self._retiring.append(thread)
        thread.start()
        return thread

    def _end_all(self, model: str, old: list[ServedVersion]) -> None:
        deadline = time.monotonic() + self._retire_s
        for served in old:
            try:
                self._end(served, deadline)
            except EdgertError as error:  # a lost device; the process is told elsewhere
                log.error("model %s version %d is not freed: %s", model, served.version, error)  # noqa: TRY400
            states = self._states[model]
            if states.get(served.version, VersionState("")).state == "UNLOADING":
                states[served.version] = VersionState("UNAVAILABLE", "unloaded")

    def _end(self, served: ServedVersion, deadline: float) -> None:
        """Wait until a version has answered what it was given, then free it.

        A batch that never ends is left behind with its lane and memory: waiting for it would stop
        everything else.
        """
        if not self._becomes_idle(served, deadline):
            self.has_lost_work = self.has_lost_work or self._is_closed
            served.give_up()
        if not self._becomes_idle(served, deadline, at_least_s=LAST_BATCH_S):
            log.error(
                "model %s version %d does not finish its batch; it is left behind",
                served.name,
                served.version,
            )
            return
        served.close()
        log.info("model %s version %d freed", served.name, served.version)

    def _becomes_idle(self, served: ServedVersion, deadline: float, at_least_s: float = 0.0) -> bool:
        least = time.monotonic() + at_least_s
        while not served.is_idle:
            if time.monotonic() > max(least, min(deadline, self._end_by)):
                return False
            time.sleep(LOOK_S)
        return True
