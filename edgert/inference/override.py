"""What clients load in place of a model's files in the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from edgert.errors import ModelError, RequestError
from edgert.models.config_json import config_from_json
from edgert.models.store import ModelEntry, ModelStore, wrong_with

_SENT = "the configuration in the request"  # what errors name instead of a file


class Override:
    """A configuration, and perhaps files, for one model."""

    def __init__(self, model: str, config_json: str, folder: Path | None) -> None:
        """`folder` is a store with this model only, and is removed with the override."""
        self._model = model
        self._config_json = config_json
        self._folder = folder

    def entry(self, store: ModelStore) -> ModelEntry:
        """Return the model as the client describes it. Raises ModelError."""
        entry = (ModelStore(self._folder) if self._folder else store).entry(self._model)
        reading = config_from_json(self._config_json, self._model, _SENT)
        return msgspec.structs.replace(entry, config=reading.config, warnings=reading.warnings)

    def remove(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            _remove(self._folder)


class Overrides:
    """Overrides by model, until they are replaced or forgotten. What is loaded stays loaded."""

    def __init__(self) -> None:
        self._overrides: dict[str, Override] = {}

    def make(self, model: str, config_json: str | None, files: Mapping[str, bytes]) -> Override | None:
        """Return what a load request carries; None: nothing. `take` or `remove` it.

        Raises:
            RequestError: there are files without a configuration, or one cannot be written.
        """
        if config_json is None:
            if files:
                raise RequestError(
                    f"failed to load '{model}', override config is required when there are override files"
                )
            return None
        if wrong := wrong_with(model):
            raise RequestError(f"failed to load '{model}': {wrong}")
        return Override(model, config_json, _folder_of(model, files) if files else None)

    def take(self, model: str, override: Override | None) -> None:
        """Let an override take the place of what there was; None: go back to the store."""
        self.forget(model)
        if override is not None:
            self._overrides[model] = override

    def has(self, model: str) -> bool:
        """Say whether a client describes the model."""
        return model in self._overrides

    def entry(self, store: ModelStore, model: str) -> ModelEntry:
        """Return a model as the store or a client describes it. Raises ModelError."""
        override = self._overrides.get(model)
        return override.entry(store) if override is not None else store.entry(model)

    def forget(self, model: str) -> None:
        """Go back to the store."""
        if override := self._overrides.pop(model, None):
            override.remove()

    def close(self) -> None:
        """Remove everything."""
        for model in list(self._overrides):
            self.forget(model)


def _remove(folder: Path) -> None:
    from shutil import rmtree  # of 0.7 MB with tempfile, which only who sends files has to pay

    rmtree(folder, ignore_errors=True)


def _folder_of(model: str, files: Mapping[str, bytes]) -> Path:
    """Write the files to a private folder. Raises RequestError, ModelError."""
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix="edgert-model-"))
    try:
        for name, content in files.items():
            _write(folder / model, name, content)
    except (RequestError, ValueError, OSError) as error:
        _remove(folder)
        if isinstance(error, RequestError):
            raise
        raise ModelError(f"the files of '{model}' cannot be kept in {folder.parent}: {error}") from error
    return folder


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write `1/model.onnx` below the folder. Raises RequestError for a name that leads elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or any(part in ("..", "/", ".") or "\0" in part for part in parts):
        raise RequestError(f"failed to load: file {name!r}, expected a name such as 1/model.onnx")
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
