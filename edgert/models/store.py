"""The model store: `<store>/<model>/config.pbtxt` and `edgert.toml`, `<store>/<model>/<version>/<file>`."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import msgspec

from edgert.config import Document
from edgert.errors import ConfigError, ModelError
from edgert.models.config_pbtxt import read_config
from edgert.models.config_tree import Reading
from edgert.models.files import check_size, confined, is_file, list_folder, read_text
from edgert.models.model_config import ModelConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, ONNX, PYTHON, TENSORRT, Family, stated_runtime

CONFIG_FILE = "config.pbtxt"
SETTINGS_FILE = "edgert.toml"
MAX_SETTINGS_BYTES = 1 << 20
MAX_LABELS_BYTES = 4 << 20
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class ModelVersion(msgspec.Struct, frozen=True):
    """One numbered folder of a model."""

    model: str
    number: int
    folder: Path


class ModelEntry(msgspec.Struct, frozen=True):
    """One model as the store described it when it was asked; nothing is loaded."""

    name: str
    folder: Path
    config: ModelConfig
    settings: Document  # edgert.toml, empty if there is none
    warnings: tuple[str, ...] = ()

    def versions(self) -> tuple[ModelVersion, ...]:
        """Return all versions present now, ascending."""
        return _versions(self.folder)

    def chosen_versions(self) -> tuple[ModelVersion, ...]:
        """Return the versions that the policy serves, ascending.

        Raises:
            ModelError: there is none, or a specific one is missing.
        """
        present = {version.number: version for version in self.versions()}
        chosen = self.config.version_policy.choose(tuple(present))
        if not present:
            raise ModelError(f"{self.folder}: has no version, expected a folder such as {self.folder / '1'}")
        missing = [str(number) for number in chosen if number not in present]
        if missing:
            raise ModelError(
                f"{self.config.file}: field version_policy.specific.versions: found {', '.join(missing)}, "
                f"expected versions that are present: {', '.join(map(str, present))}"
            )
        return tuple(present[number] for number in chosen)

    def engine_file(self, version: ModelVersion, compute_capability: str | None = None) -> Path:
        """Return the engine of a version for a GPU such as `8.7`, or for none.

        It is the one in `cc_model_filenames`, else `default_model_filename`, else model.plan or
        model.onnx as the runtime says, else the only file with a suffix that edgert knows.

        With the runtime `noop` it is the version's folder: that engine has no file.

        Raises:
            ModelError: it is not there, or several could be meant; names what was looked for.
        """
        runtime = stated_runtime(self.config, self.settings)
        if runtime == "noop":
            return version.folder
        by_capability = self.config.cc_model_filenames.get(compute_capability or "")
        if by_capability is not None:
            field = f"cc_model_filenames[{compute_capability}]"
            return self._named_file(version, by_capability, field)
        if self.config.default_model_filename:
            return self._named_file(version, self.config.default_model_filename, "default_model_filename")
        families = [FAMILY_OF_RUNTIME[runtime]] if runtime else [TENSORRT, ONNX]
        return self._only_file(version, families)

    def labels(self, output_name: str | None = None) -> tuple[str, ...]:
        """Return the labels of an output, or of the first that has any; empty if no file is named.

        The file is the output's `label_filename`, else `[labels] file` of edgert.toml: one label a
        line, at most 4 MiB.

        Raises:
            ModelError: the file is missing, outside the model's folder, or not UTF-8.
        """
        for index, output in enumerate(self.config.outputs):
            if output.label_filename and output_name in (None, output.name):
                what = f"{self.config.file}: field output[{index}].label_filename"
                return self._read_labels(output.label_filename, what)
        table = self.settings.tree.get("labels", {})
        name = table.get("file", "") if isinstance(table, dict) else ""
        if not isinstance(name, str):
            raise ModelError(f"{self.settings.path}: labels.file = {name!r}: expected a file's name")
        return self._read_labels(name, f"{self.settings.path}: labels.file") if name else ()

    def _named_file(self, version: ModelVersion, name: str, field: str) -> Path:
        what = f"{self.config.file}: field {field}"
        path = confined(version.folder, name, self.folder, what)
        if not is_file(path):
            raise ModelError(f"{what} = {name!r}: expected a file {path}")
        return path

    def _only_file(self, version: ModelVersion, families: list[Family]) -> Path:
        defaults = [family.filename for family in families]
        suffixes = tuple(suffix for family in families for suffix in family.suffixes)
        present = [path.name for path in list_folder(version.folder) if is_file(path)]
        found = [name for name in present if name in defaults]
        found = found or [name for name in present if name.lower().endswith(suffixes)]
        if len(found) == 1:
            return confined(version.folder, found[0], self.folder, str(version.folder))
        if not found and PYTHON.filename in present and PYTHON not in families:
            raise ModelError(
                f"{version.folder}: {PYTHON.filename} is there, and {self.config.file} does not ask for it. "
                f'Give backend: "{PYTHON.backend}" there'
            )
        raise ModelError(
            f"{version.folder}: looked for {' or '.join(defaults)}, or one file ending in "
            f"{', '.join(suffixes)}; found {', '.join(found) or 'none'}. "
            f"Give default_model_filename or platform in {self.config.file}"
        )

    def _read_labels(self, name: str, what: str) -> tuple[str, ...]:
        path = confined(self.folder, name, self.folder, what)
        try:
            text = read_text(path, MAX_LABELS_BYTES)
        except ModelError as error:
            raise ModelError(f"{what} = {name!r}: {error}") from error
        return tuple(line.strip() for line in text.rstrip().split("\n")) if text.strip() else ()


class ModelStore:
    """A folder of models, in the layout of the Inference Server's repository. Keeps nothing in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> tuple[str, ...]:
        """Return the names of all folders that hold a model, sorted. Raises ModelError without a store."""
        folders = list_folder(self.folder)
        return tuple(path.name for path in folders if not wrong_with(path.name) and _holds_model(path))

    def warnings(self) -> list[str]:
        """Return which folders are passed over though they may be meant as models."""
        try:
            folders = [path for path in list_folder(self.folder) if path.is_dir()]
        except ModelError:  # whoever asks for the names is told
            return []
        return [
            f"{path}: is passed over, as it has neither {CONFIG_FILE} nor a version such as {path / '1'}"
            for path in folders
            if not wrong_with(path.name) and not _holds_model(path)
        ] + [
            f"{path}: is passed over: {wrong}"
            for path in folders
            if not path.name.startswith(".")
            and path.name != "lost+found"
            and (wrong := wrong_with(path.name))
        ]

    def entry(self, name: str) -> ModelEntry:
        """Read what the store says of a model. Raises ModelError if it is absent or wrong."""
        if wrong := wrong_with(name):
            raise ModelError(f"Model {name!r}: {wrong}")
        folder = confined(self.folder / name, ".", self.folder / name, f"Model {name!r}")
        contents = _contents(folder)
        if not _is_model(contents):
            raise self._absent(name)
        reading = Reading(ModelConfig(file=str(folder / CONFIG_FILE), name=name))
        if CONFIG_FILE in contents:
            reading = read_config(confined(folder, CONFIG_FILE, folder, str(folder)), name)
        settings = Document(folder / SETTINGS_FILE, {})
        if SETTINGS_FILE in contents:
            settings = _read_settings(confined(folder, SETTINGS_FILE, folder, str(folder)))
        return ModelEntry(name, folder, reading.config, settings, reading.warnings)

    def _absent(self, name: str) -> ModelError:
        names = self.names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names) or 'none'}"
        if (self.folder / name).is_dir():
            hint = f"its folder has neither {CONFIG_FILE} nor a version such as {self.folder / name / '1'}"
        return ModelError(f"Model {name!r} is not in the store {self.folder}; {hint}")


def wrong_with(name: str) -> str:
    """Return why `name` cannot name a model, in a sentence; empty if it can.

    A name is a folder and a level of MQTT topics.
    """
    if not name or len(name.encode(errors="replace")) > 255 or name.startswith("."):
        return "expected a name of 1 to 255 bytes that does not begin with '.'"
    bad = sorted({letter for letter in name if letter in "+#/\\" or not letter.isprintable()})
    return f"expected a name without {' '.join(map(repr, bad))}" if bad else ""


def _versions(folder: Path) -> tuple[ModelVersion, ...]:
    numbered = [path for path in list_folder(folder) if _VERSION.fullmatch(path.name) and path.is_dir()]
    numbered.sort(key=lambda path: int(path.name))
    return tuple(ModelVersion(folder.name, int(path.name), path) for path in numbered)


def _holds_model(folder: Path) -> bool:
    """Tell a model from another folder. One that cannot be read counts, as `entry` says why."""
    try:
        return _is_model(_contents(folder))
    except ModelError:
        return True


def _contents(folder: Path) -> frozenset[str]:
    """Return the names in a folder; none if it is no folder."""
    return frozenset(path.name for path in list_folder(folder)) if folder.is_dir() else frozenset()


def _is_model(contents: frozenset[str]) -> bool:
    return not contents.isdisjoint((CONFIG_FILE, SETTINGS_FILE)) or any(map(_VERSION.fullmatch, contents))


def _read_settings(path: Path) -> Document:
    try:
        check_size(path, path.stat().st_size, MAX_SETTINGS_BYTES)
        return Document.load(path)
    except (ConfigError, OSError) as error:
        raise ModelError(str(error)) from error
    except RecursionError:
        raise ModelError(f"{path}: not valid TOML: nested too deep") from None
