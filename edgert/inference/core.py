"""The InferenceCore that serves a model store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from edgert.errors import (
    ClosedError,
    ConfigError,
    DeviceLostError,
    EdgertError,
    ModelError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.frames.request import InferRequest
from edgert.inference.loader import Loader, steps_of
from edgert.inference.open_version import hidden_inputs
from edgert.inference.override import Override, Overrides
from edgert.inference.repository import Repository
from edgert.inference.served_version import ServedVersion
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.models.store import ModelEntry, ModelStore
from edgert.serve.core import IndexEntry, ModelMetadata, ModelStatistics, TensorMetadata
from edgert.serve.datatypes import DATATYPE_OF_DTYPE
from edgert.serve.options import ServeOptions


class Core:
    """See `serve.core.InferenceCore`. `overrides` keeps what clients load in place of the store's files."""

    def __init__(
        self, store: ModelStore, options: ServeOptions, repository: Repository, overrides: Overrides
    ) -> None:
        self._store = store
        self._options = options
        self._repository = repository
        self._overrides = overrides
        self._loader = Loader(repository, lambda model: overrides.entry(store, model))
        self._change = threading.Lock()  # one load or unload at a time, with what depends on it
        self._wanted: set[str] = set()  # models that ought to be there
        self._has_begun = self._is_stopping = False

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
        """Be no longer ready."""
        self._is_stopping = True

    def close(self, timeout_s: float) -> None:
        """Unload all, within that time."""
        self._is_stopping = True
        self._repository.close(timeout_s)
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
        except UnknownModelError:
            return False
        ensemble = served.config.ensemble
        return ensemble is None or all(
            self.is_model_ready(step.model, max(step.version, 0)) for step in ensemble.steps
        )

    def model_metadata(self, model: str, version: int = 0) -> ModelMetadata:
        """Return what a client has to know. Raises UnknownModelError."""
        served = self._repository.get(model, version)
        config = served.config
        hidden = hidden_inputs(config)
        chosen = [served] if version else self._repository.versions(model)
        return ModelMetadata(
            model,
            tuple(str(other.version) for other in chosen),
            config.platform or config.backend,
            tuple(_metadata(config, tensor) for tensor in config.inputs if tensor.name not in hidden),
            tuple(_metadata(config, tensor) for tensor in config.outputs),
        )

    def model_config(self, model: str, version: int = 0) -> ModelConfig:
        """Return the completed configuration. Raises UnknownModelError."""
        return self._repository.get(model, version).config

    def labels(self, model: str, version: int, output: str) -> Sequence[str]:
        """Return the labels of an output, by class. Raises UnknownModelError."""
        served = self._repository.get(model, version)
        labels = self._loader.labels(model, output)
        for step in served.config.ensemble.steps if served.config.ensemble and not labels else ():
            for own, name in step.outputs.items():
                if name == output:
                    return self.labels(step.model, max(step.version, 0), own)
        return labels

    def statistics(self, model: str = "", version: int = 0) -> list[ModelStatistics]:
        """Return what served versions did. Raises UnknownModelError."""
        if model and version:
            return [self._repository.get(model, version).statistics()]
        if model:
            self._repository.get(model)
        return [served.statistics() for served in self._repository.versions(model)]

    def infer(self, request: InferRequest) -> None:
        """Begin an inference. Raises RequestError."""
        if self._is_stopping:
            raise UnavailableError("The server is stopping.")
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
                    raise type(error)(f"failed to load '{model}': {error}") from error
                raise
            self._overrides.take(model, override)
            self._wanted.add(model)

    def unload(self, model: str, *, with_dependents: bool = False) -> None:
        """Unload a model. Raises as InferenceCore says."""
        self._demand_control("unload", model)
        with self._change:
            if not self._repository.is_known(model) and model not in self._store.names():
                raise UnknownModelError(f"failed to unload '{model}': the store has no such model")
            steps = self._only_steps_of(model) if with_dependents else []
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

    # Behind them.

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

    def _only_steps_of(self, model: str) -> list[str]:
        """Return the models of an ensemble's steps, and of theirs, that no other ensemble needs."""
        going: list[str] = [model]
        for name in going:
            steps = {step for served in self._repository.versions(name) for step in steps_of(served)}
            going += sorted(steps - set(going))
        others = {served.name for served in self._repository.versions()} - set(going)
        kept = {step for other in others for step in self._loader.reachable(other)}
        return [name for name in going[1:] if name not in kept]

    def _is_same(self, served: ServedVersion, request: InferRequest) -> bool:
        return self._repository.get(request.model, request.version) is served

    def _demand_control(self, verb: str, model: str) -> None:
        if not self.is_explicit:
            raise UnsupportedError(
                f"failed to {verb} '{model}', explicit model load / unload is not allowed: serve.mode is "
                f'"{self._options.mode}", set it to "explicit"'
            )


def _metadata(config: ModelConfig, tensor: TensorConfig) -> TensorMetadata:
    axis = (-1,) if config.max_batch_size and not tensor.is_shape_tensor else ()
    return TensorMetadata(tensor.name, DATATYPE_OF_DTYPE[tensor.dtype], axis + tensor.dims)
