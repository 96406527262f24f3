"""What the store and the pipeline file say of one model, typed, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgert.config import Document, Options, merge
from edgert.decode.factory import DecodeOptions
from edgert.decode.tensors import TensorsOptions
from edgert.errors import ConfigError
from edgert.execute.options import EngineOptions
from edgert.models.runtime import runtime_of
from edgert.models.store import ModelEntry
from edgert.prepare.options import PrepareOptions


class LabelOptions(Options, frozen=True, kw_only=True):
    """The `[labels]` table of edgert.toml."""

    file: str | None = None  # one label a line, relative to the model's folder
    colours: dict[str, str] = {}  # label to "#rrggbb", for pictures of the results


class ModelSettings(Options, frozen=True, kw_only=True):
    """A model's edgert.toml: what config.pbtxt has no words for."""

    engine: EngineOptions = EngineOptions()
    prepare: PrepareOptions = PrepareOptions()
    decode: DecodeOptions = msgspec.field(default_factory=TensorsOptions)
    labels: LabelOptions = LabelOptions()


class ModelPlan(msgspec.Struct, frozen=True):
    """A model of the store with its settings and the pipeline file's overrides."""

    entry: ModelEntry
    settings: ModelSettings

    @property
    def runtime(self) -> str:
        """The runtime that loads the model's engine file."""
        if self.settings.engine.runtime:
            return self.settings.engine.runtime
        newest = self.entry.chosen_versions()[-1]
        return runtime_of(self.entry.config, self.entry.settings, self.entry.engine_file(newest))

    @property
    def lanes(self) -> int:
        """How many batches of this model run at once."""
        groups = self.entry.config.instance_groups
        return self.settings.engine.lanes or sum(group.count for group in groups) or 1

    def check(self) -> None:
        """Look at everything that needs no engine: versions, files, labels. Raises ModelError."""
        for version in self.entry.chosen_versions():
            if self.runtime != "noop":
                self.entry.engine_file(version)
        self.entry.labels()


def plan_model(entry: ModelEntry, overrides: dict[str, Any], pipeline_file: Path) -> ModelPlan:
    """Return the plan for `entry`. Raises ConfigError naming the file that is wrong."""
    entry.settings.as_type(ModelSettings)  # first alone, so that an error names the right file
    merged = Document(entry.settings.path, merge(entry.settings.tree, overrides))
    try:
        settings = merged.as_type(ModelSettings)
    except ConfigError as error:
        text = str(error).removeprefix(f"{merged.path}: ")
        raise ConfigError(f"{pipeline_file}: models.{entry.name}.{text}") from error
    return ModelPlan(msgspec.structs.replace(entry, settings=merged), settings)
