"""What clients load in place of a model's files in the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from edgert.errors import RequestError
from edgert.models.config_json import config_from_json
from edgert.models.files import confined
from edgert.models.store import CONFIG_FILE, ModelEntry, ModelStore


class Overrides:
    """Configurations and files by model, kept in a private folder until they are replaced or forgotten."""

    def __init__(self) -> None:
        self._configs: dict[str, str] = {}
        self._folders: dict[str, Path] = {}

    def set(self, model: str, config_json: str | None, files: Mapping[str, bytes]) -> None:
        """Take what a load request carries; without anything, go back to the store. Raises RequestError."""
        if files and config_json is None:
            raise RequestError(
                f"failed to load '{model}', override config is required when there are override files"
            )
        self.forget(model)
        if config_json is not None:
            self._configs[model] = config_json
        if files:
            self._folders[model] = folder = Path(tempfile.mkdtemp(prefix="edgert-model-"))
            for name, content in files.items():
                _write(folder / model, name, content)

    def entry(self, store: ModelStore, model: str) -> ModelEntry:
        """Return a model as the store or a client describes it. Raises ModelError."""
        config = self._configs.get(model)
        folder = self._folders.get(model)
        entry = ModelStore(folder).entry(model) if folder else store.entry(model)
        if config is None:
            return entry
        reading = config_from_json(config, model, str(entry.folder / CONFIG_FILE))
        return msgspec.structs.replace(entry, config=reading.config, warnings=reading.warnings)

    def forget(self, model: str) -> None:
        """Go back to the store. What is loaded stays loaded."""
        self._configs.pop(model, None)
        if folder := self._folders.pop(model, None):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        for model in list(self._folders):
            self.forget(model)


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write `1/model.onnx` below the folder. Raises RequestError for a name that leads elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or len(parts) > 2 or any(part in ("..", "/", ".") for part in parts):
        raise RequestError(f"failed to load: file {name!r}, expected a name such as 1/model.onnx")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.joinpath(*parts)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    confined(folder, name, folder, f"file {name!r}")
