"""The InferenceCore that serves a model store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from edgert.errors import (
    ClosedError,
    ConfigError,
    DeviceLostError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.frames.request import InferRequest
from edgert.inference.described import cancelled, metadata_of
from edgert.inference.loader import Loader
from edgert.inference.override import Override, Overrides
from edgert.inference.repository import Repository
from edgert.inference.served_version import ServedVersion
from edgert.models.model_config import ModelConfig
from edgert.models.store import ModelEntry, ModelStore
from edgert.serve.core import IndexEntry, ModelMetadata, ModelStatistics
from edgert.serve.options import ServeOptions

log = logging.getLogger(__name__)

MAX_SEQUENCE_ID_BYTES = 128  # of one that is text


class Core:
    """See `serve.core.InferenceCore`. `overrides` keeps what clients load in place of the store's files."""

    def __init__(
        self, store: ModelStore, options: ServeOptions, repository: Repository, overrides: Overrides
    ) -> None:
        self._store = store
        self._options = options
        self._repository = repository
        repository.is_coming = self._is_coming
        self._overrides = overrides
        self._loader = Loader(repository, lambda model: overrides.entry(store, model))
        self._change = threading.Lock()  # one load or unload at a time, with what depends on it
        self._wanted: set[str] = set()  # models that ought to be there
        self._has_begun = self._is_stopping = False
        self._stopped_mono_s = 0.0  # when `stop` was called
        self._cancelled_before = 0  # requests, until then
        self.has_lost_work = False  # after `close`: not every request was answered in time

    # From the start to the end.

    def begin(self, names: Sequence[str]) -> list[str]:
        """Load these models; return those that cannot be, which are UNAVAILABLE.

        Raises:
            EdgertError: one cannot be loaded, and the options say `exit_on_error`, or the device is lost.
        """
        failed: list[str] = []
        with self._change:
            for name in names:
                if self._is_stopping:
                    return failed
                self._wanted.add(name)
                try:
                    self._loader.load_absent(name, steps=names if self._is_followed else None)
                except EdgertError as error:
                    if self._options.exit_on_error or isinstance(error, DeviceLostError):
                        raise
                    failed.append(name)
        self._has_begun = True
        return failed

    def stop(self) -> None:
        """Be no longer ready, and take no more requests."""
        self._is_stopping = True
        self._stopped_mono_s = time.monotonic()
        self._cancelled_before = cancelled(self._repository.versions())

    def close(self, timeout_s: float) -> None:
        """Unload all, within that time of `stop` where that was called."""
        if not self._is_stopping:
            self.stop()
        served = self._repository.versions()
        self._repository.close(max(0.0, self._stopped_mono_s + timeout_s - time.monotonic()))
        self.has_lost_work = self._repository.has_lost_work or cancelled(served) > self._cancelled_before
        self._overrides.close()

    def named_at_start(self) -> Sequence[str]:
        """Return what the options want loaded: all of the store, or what they name."""
        return self._options.named_at_start(self._store.names())

    @property
    def is_explicit(self) -> bool:
        """Clients say which models are served."""
        return self._options.mode == "explicit"

    # What fronts ask.

    def is_ready(self) -> bool:
        """Every model that was wanted is served."""
        return (
            self._has_begun and not self._is_stopping and all(map(self.is_model_ready, tuple(self._wanted)))
        )

    def is_model_ready(self, model: str, version: int = 0) -> bool:
        """Say whether it answers requests."""
        try:
            served = self._repository.get(model, version)
        except (UnknownModelError, UnavailableError):
            return False
        return not self._repository.lacking(served)

    def model_metadata(self, model: str, version: int = 0) -> ModelMetadata:
        """Return what a client has to know. Raises UnknownModelError, UnavailableError."""
        served = self._repository.get(model, version)
        return metadata_of(served, [served] if version else self._repository.versions(model))

    def model_config(self, model: str, version: int = 0) -> ModelConfig:
        """Return the completed configuration. Raises UnknownModelError, UnavailableError."""
        return self._repository.get(model, version).config

    def labels(self, model: str, version: int, output: str) -> Sequence[str]:
        """Return the labels of an output, by class. Raises UnknownModelError, UnavailableError."""
        served = self._repository.get(model, version)
        labels = self._loader.labels(model, output)
        for step in served.config.ensemble.steps if served.config.ensemble and not labels else ():
            for own, name in step.outputs.items():
                if name == output:
                    return self.labels(step.model, max(step.version, 0), own)
        return labels

    def statistics(self, model: str = "", version: int = 0) -> list[ModelStatistics]:
        """Return what served versions did. Raises UnknownModelError, UnavailableError."""
        if model and version:
            return [self._repository.get(model, version).statistics()]
        if model:
            self._repository.get(model)
        return [served.statistics() for served in self._repository.versions(model)]

    def infer(self, request: InferRequest) -> None:
        """Begin an inference. Raises RequestError."""
        if self._is_stopping:
            raise UnavailableError("The server is stopping.")
        if request.sequence is not None:
            _check_sequence_id(request.sequence.id)
        self.infer_step(request)

    def infer_step(self, request: InferRequest) -> None:
        """Begin an inference that is part of one under way. Raises RequestError."""
        while True:
            served = self._repository.get(request.model, request.version)
            try:
                served.infer(request)
            except ClosedError:  # it was replaced just now
                if self._is_same(served, request):
                    raise UnavailableError(f"Model '{request.model}' is being unloaded.") from None
            else:
                return

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        """Return what the store has, and what was loaded of it."""
        try:
            names: Iterable[str] = self._store.names()
        except ModelError:
            names = ()
        return self._repository.index(tuple(names), only_ready=only_ready)

    def load(
        self, model: str, config_json: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model, with the models of its steps if it is an ensemble. Raises as InferenceCore says."""
        self._demand_control("load", model)
        override = self._overrides.make(model, config_json, files or {})
        with self._change:
            try:
                self._loader.load(model, self._described(model, override))
            except EdgertError as error:
                if override is not None:
                    override.remove()
                if isinstance(error, ModelError | ConfigError):
                    kind = RequestError if override is not None else type(error)  # the client's mistake
                    raise kind(f"failed to load '{model}': {error}") from error
                raise
            self._overrides.take(model, override)
            self._wanted.add(model)

    def unload(self, model: str, *, with_dependents: bool = False) -> None:
        """Unload a model. Raises as InferenceCore says."""
        self._demand_control("unload", model)
        with self._change:
            if not self._repository.is_known(model) and model not in self._store.names():
                raise UnknownModelError(f"failed to unload '{model}': the store has no such model")
            steps = self._loader.only_steps_of(model) if with_dependents else []
            self._repository.unload(model, waits=bool(steps))  # what it was given still needs them
            for name in (model, *steps):
                self._repository.unload(name)
                self._wanted.discard(name)
                self._overrides.forget(name)

    def models(self) -> list[str]:
        """Return the models that are served or ought to be."""
        return sorted({served.name for served in self._repository.versions()} | self._wanted)

    def reload(self, model: str) -> list[str]:
        """Load what the store has of a model now, or unload it where the store has it no more.

        Returns the models that were loaded: ensembles may have waited for this one.

        Raises:
            EdgertError: it stays as it was.
        """
        with self._change:
            if model not in self._store.names() and not self._overrides.has(model):
                self._wanted.discard(model)
                self._repository.unload(model)
                return []
            if self._is_followed:
                self._wanted.add(model)
            return self._loader.load(model, steps=() if self._is_followed else None)

    def reload_changed(self) -> None:
        """Load again what has changed in the store, and what ought to be served and is not.

        One that cannot be loaded stays as it was.
        """
        same = [model for model in self.models() if self._loader.is_as_loaded(model)]
        for model in self._loader.steps_first(self.models()):
            if model not in same:
                try:
                    self.reload(model)
                except EdgertError as error:
                    log.debug("model %s stays as it was: %s", model, error)  # whoever loads has said why
        if same:
            log.info("not loaded again, as nothing of it has changed: %s", ", ".join(same))

    # Behind them.

    def _is_coming(self, model: str) -> bool:
        """Say whether the start has still to load a model."""
        try:
            return not self._has_begun and model in self.named_at_start()
        except ModelError:  # the store cannot be read just now
            return False

    @property
    def _is_followed(self) -> bool:
        """The store's changes are followed: what is not known to be whole is not loaded."""
        return self._options.mode == "poll"

    def _described(self, model: str, override: Override | None) -> ModelEntry:
        """Return what a load request asks for. Raises UnknownModelError, ModelError."""
        if override is not None:
            return override.entry(self._store)
        try:
            return self._store.entry(model)
        except ModelError as error:
            if model in self._store.names():
                self._repository.fail(model, str(error))
                raise
            raise UnknownModelError(f"failed to load '{model}': {error}") from error

    def _is_same(self, served: ServedVersion, request: InferRequest) -> bool:
        return self._repository.get(request.model, request.version) is served

    def _demand_control(self, verb: str, model: str) -> None:
        if not self.is_explicit:
            raise UnsupportedError(
                f"failed to {verb} '{model}', explicit model load / unload is not allowed: serve.mode is "
                f'"{self._options.mode}", set it to "explicit"'
            )


def _check_sequence_id(sequence: int | str) -> None:
    """Raise RequestError, in the Inference Server's words, for an id that is too long."""
    if isinstance(sequence, str) and len(sequence.encode(errors="replace")) > MAX_SEQUENCE_ID_BYTES:
        raise RequestError(f"string correlation ID cannot be longer than {MAX_SEQUENCE_ID_BYTES} characters")
