"""Loads models into the repository, ensembles after the models of their steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from edgert.errors import EdgertError, ModelError
from edgert.inference.poll import Item, tree_of
from edgert.inference.repository import Repository
from edgert.inference.served_version import ServedVersion
from edgert.models.ensemble_checks import PATH, check_ensemble_models
from edgert.models.model_config import Ensemble, EnsembleStep, ModelConfig
from edgert.models.store import ModelEntry

Labels = Mapping[str, Sequence[str]]  # by output; "": of those that are not named


class Loader:
    """One load at a time. `entry_of` reads a model as it is described now."""

    def __init__(self, repository: Repository, entry_of: Callable[[str], ModelEntry]) -> None:
        self._repository = repository
        self._entry_of = entry_of
        self._labels: dict[str, Labels] = {}
        self._files: dict[str, tuple[Path, tuple[Item, ...]]] = {}  # of what was loaded last
        self._awaited: dict[str, set[str]] = {}  # by ensemble that did not load: models that may mend that

    def load(
        self, model: str, entry: ModelEntry | None = None, *, steps: Collection[str] | None = None
    ) -> list[str]:
        """Load a model, or load it again; return what was loaded, ensembles that waited for it included.

        Models of its steps that are not served are loaded first, if they are among `steps` (None: any).

        Raises:
            EdgertError: it stays as it was.
        """
        self._load(model, entry, steps, ())
        loaded = [model]
        for waiting in [name for name, models in self._awaited.items() if model in models]:
            try:
                loaded += self.load(waiting, steps=steps)
            except EdgertError:
                continue
        return loaded

    def load_absent(self, model: str, *, steps: Collection[str] | None = None) -> None:
        """Load a model that may be served already. Raises EdgertError."""
        if not self._repository.versions(model):
            self._load(model, None, steps, ())

    def labels(self, model: str, output: str) -> Sequence[str]:
        """Return the labels of an output of a served model, as they were when it was loaded."""
        labels = self._labels.get(model, {})
        return labels.get(output, labels.get("", ()))

    def reachable(self, model: str) -> set[str]:
        """Return the models of the steps of a served ensemble, and of their steps."""
        return _reached(model, self._served_steps)

    def steps_first(self, models: Iterable[str]) -> list[str]:
        """Return models as they are to be loaded: each before the ensembles that need it now."""
        return sorted(models, key=lambda model: len(_reached(model, self._described_steps)))

    def only_steps_of(self, model: str) -> list[str]:
        """Return the models of an ensemble's steps, and of theirs, that no other ensemble needs."""
        going: list[str] = [model]
        for name in going:
            going += sorted(self._served_steps(name) - set(going))
        others = {served.name for served in self._repository.versions()} - set(going)
        kept = {step for other in others for step in self.reachable(other)}
        return [name for name in going[1:] if name not in kept]

    def is_as_loaded(self, model: str) -> bool:
        """Say whether a model is served and its folder is as it was when it was loaded."""
        known = self._files.get(model)
        return known is not None and bool(self._repository.versions(model)) and known[1] == _items(known[0])

    def _served_steps(self, model: str) -> set[str]:
        return {name for served in self._repository.versions(model) for name in steps_of(served.config)}

    def _described_steps(self, model: str) -> set[str]:
        try:
            return steps_of(self._entry_of(model).config)
        except EdgertError:  # told when it is loaded
            return set()

    def _load(
        self, model: str, entry: ModelEntry | None, steps: Collection[str] | None, above: tuple[str, ...]
    ) -> None:
        try:
            self._awaited.pop(model, None)
            entry = entry or self._entry_of(model)
            files = _items(entry.folder)
            labels = _labels_of(entry)
            if entry.config.ensemble is not None:
                self._load_steps(model, entry.config, entry.config.ensemble, steps, (*above, model))
        except EdgertError as error:
            if entry is not None and steps is not None:  # the store is followed, its models come one by one
                self._awaited.setdefault(model, steps_of(entry.config))
            self._repository.fail(model, str(error))
            raise
        self._repository.load(entry)
        self._labels[model] = labels
        self._files[model] = entry.folder, files

    def _load_steps(
        self,
        model: str,
        config: ModelConfig,
        ensemble: Ensemble,
        steps: Collection[str] | None,
        above: tuple[str, ...],
    ) -> None:
        """Load an ensemble's models that are not served yet, and hold it against them. Raises EdgertError."""
        served: dict[str, ServedVersion] = {}
        for index, step in enumerate(ensemble.steps):
            if step.model in above or model in self.reachable(step.model):
                raise _problem(config, index, "model_name", f"{step.model!r} needs {model!r} itself")
            if not self._repository.versions(step.model):
                self._load_step(model, config, index, step, steps, above)
            served[step.model] = self._served(config, index, step)
        check_ensemble_models(config, {name: own.config for name, own in served.items()})

    def _load_step(
        self,
        model: str,
        config: ModelConfig,
        index: int,
        step: EnsembleStep,
        steps: Collection[str] | None,
        above: tuple[str, ...],
    ) -> None:
        if steps is not None and step.model not in steps:
            self._awaited[model] = {step.model}
            raise _problem(config, index, "model_name", f"{step.model!r} is not served; waits until it is")
        try:
            self._load(step.model, None, steps, above)
        except ModelError as error:
            raise _problem(config, index, "model_name", str(error)) from error

    def _served(self, config: ModelConfig, index: int, step: EnsembleStep) -> ServedVersion:
        versions = {own.version: own for own in self._repository.versions(step.model)}
        wanted = max(versions) if step.version < 0 else step.version
        if wanted not in versions:
            there = ", ".join(map(str, versions))
            raise _problem(config, index, "model_version", f"found {wanted}, {step.model!r} serves {there}")
        if versions[wanted].config.is_decoupled:
            what = f"{step.model!r} is decoupled; an ensemble takes models that answer each request once"
            raise _problem(config, index, "model_name", what)
        return versions[wanted]


def steps_of(config: ModelConfig) -> set[str]:
    """Return the models that an ensemble hands its requests to."""
    return {step.model for step in config.ensemble.steps} if config.ensemble else set()


def _reached(model: str, steps: Callable[[str], set[str]]) -> set[str]:
    found: set[str] = set()
    left = [model]
    while left:
        own = steps(left.pop())
        left += own - found
        found |= own
    return found


def _items(folder: Path) -> tuple[Item, ...]:
    """Return what a model consists of; nothing where its folder cannot be read."""
    tree = tree_of(folder)
    return () if tree is None else tree.lasting


def _labels_of(entry: ModelEntry) -> Labels:
    """Return the labels of a model. Raises ModelError for a file that cannot be read."""
    own = {output.name: entry.labels(output.name) for output in entry.config.outputs}
    return {**own, "": entry.labels("")}


def _problem(config: ModelConfig, index: int, field: str, what: str) -> ModelError:
    return ModelError(f"{config.file}: field {PATH}.step[{index}].{field}: {what}")
