"""The InferenceCore that serves a model store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from edgert.errors import (
    ClosedError,
    ConfigError,
    EdgertError,
    ModelError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.frames.request import InferRequest
from edgert.inference.open_version import hidden_inputs
from edgert.inference.override import Overrides
from edgert.inference.repository import Repository
from edgert.inference.served_version import ServedVersion
from edgert.models.ensemble_checks import check_ensemble_models
from edgert.models.model_config import Ensemble, ModelConfig, TensorConfig
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
        self._change = threading.Lock()  # one load or unload at a time, with what depends on it
        self._wanted: set[str] = set()  # models that ought to be there
        self._has_begun = self._is_stopping = False

    # From the start to the end.

    def begin(self, names: Sequence[str]) -> list[str]:
        """Load these models; return those that cannot be, which are UNAVAILABLE.

        Raises:
            EdgertError: one cannot be loaded, and the options say `exit_on_error`.
        """
        failed: list[str] = []
        with self._change:
            for name in names:
                if self._is_stopping:
                    return failed
                self._wanted.add(name)
                try:
                    self._load_with_steps(name, is_again=False)
                except EdgertError:
                    if self._options.exit_on_error:
                        raise
                    failed.append(name)
        self._has_begun = True
        return failed

    def stop(self) -> None:
        """Be no longer ready."""
        self._is_stopping = True

    def close(self) -> None:
        """Unload all."""
        self._is_stopping = True
        self._repository.close()
        self._overrides.close()

    def named_at_start(self) -> Sequence[str]:
        """Return what the options want loaded: all of the store, or what they name."""
        names = self._store.names()
        if self._options.mode != "explicit" or "*" in self._options.load:
            return names
        return self._options.load

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
        self._repository.get(model, version)
        try:
            return self._entry(model).labels(output)
        except ModelError:
            return ()

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
        with self._change:
            self._overrides.set(model, config_json, files or {})
            try:
                self._load_with_steps(model, is_again=True)
            except (ModelError, ConfigError) as error:
                raise type(error)(f"failed to load '{model}': {error}") from error
            self._wanted.add(model)

    def unload(self, model: str, *, with_dependents: bool = False) -> None:
        """Unload a model. Raises as InferenceCore says."""
        self._demand_control("unload", model)
        with self._change:
            if not self._repository.is_known(model) and model not in self._store.names():
                raise UnknownModelError(f"failed to unload '{model}': the store has no such model")
            going = [model, *(self._only_steps_of(model) if with_dependents else ())]
            for name in going:
                self._wanted.discard(name)
                self._repository.unload(name)
                self._overrides.forget(name)

    def reload(self, model: str) -> None:
        """Load what the store has of a model now, or unload it where the store has it no more.

        Raises:
            ModelError, ConfigError: it stays as it was.
        """
        with self._change:
            if model in self._store.names():
                self._wanted.add(model)
                self._load_with_steps(model, is_again=True)
            else:
                self._wanted.discard(model)
                self._repository.unload(model)

    # Behind them.

    def _load_with_steps(self, model: str, *, is_again: bool, above: tuple[str, ...] = ()) -> None:
        """Load a model after those of its steps that are not served yet."""
        if model in above:
            raise ModelError(f"Ensemble {model!r} is a step of itself: {' > '.join((*above, model))}")
        if not is_again and self._repository.versions(model):
            return
        try:
            entry = self._entry(model)
            if entry.config.ensemble is not None:
                self._load_steps(entry.config, entry.config.ensemble, (*above, model))
        except EdgertError as error:
            self._repository.fail(model, str(error))
            raise
        self._repository.load(entry)

    def _load_steps(self, config: ModelConfig, ensemble: Ensemble, above: tuple[str, ...]) -> None:
        """Load an ensemble's models that are not served yet, and hold it against them. Raises EdgertError."""
        for step in ensemble.steps:
            self._load_with_steps(step.model, is_again=False, above=above)
        served = {
            step.model: self._repository.get(step.model, max(step.version, 0)) for step in ensemble.steps
        }
        check_ensemble_models(config, {name: own.config for name, own in served.items()})

    def _entry(self, model: str) -> ModelEntry:
        return self._overrides.entry(self._store, model)

    def _only_steps_of(self, model: str) -> list[str]:
        """Return the models of an ensemble's steps that no other ensemble needs."""
        others = [served for served in self._repository.versions() if served.name != model]
        needed = {name for served in others for name in _steps(served)}
        own = {name for served in self._repository.versions(model) for name in _steps(served)}
        return sorted(own - needed)

    def _is_same(self, served: ServedVersion, request: InferRequest) -> bool:
        return self._repository.get(request.model, request.version) is served

    def _demand_control(self, verb: str, model: str) -> None:
        if self._options.mode != "explicit":
            raise UnsupportedError(
                f"failed to {verb} '{model}', explicit model load / unload is not allowed: serve.mode is "
                f'"{self._options.mode}", set it to "explicit"'
            )


def _steps(served: ServedVersion) -> set[str]:
    ensemble = served.config.ensemble
    return {step.model for step in ensemble.steps} if ensemble else set()


def _metadata(config: ModelConfig, tensor: TensorConfig) -> TensorMetadata:
    axis = (-1,) if config.max_batch_size and not tensor.is_shape_tensor else ()
    return TensorMetadata(tensor.name, DATATYPE_OF_DTYPE[tensor.dtype], axis + tensor.dims)
