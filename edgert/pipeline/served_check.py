"""Holds models that requests use against their files, without a GPU. What only frames need is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgert.device.opened import open_device
from edgert.errors import EdgertError, ModelError
from edgert.models.completion import complete
from edgert.models.ensemble_checks import check_ensemble_models
from edgert.models.model_config import Ensemble, ModelConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelEntry, ModelStore, ModelVersion
from edgert.pipeline.instance_groups import check_groups
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import check_model, load_engine


class ServedCheck:
    """Checks models one by one, those of an ensemble's steps before the ensemble."""

    def __init__(self, store: ModelStore, pipeline_file: Path, *, opens_engines: bool) -> None:
        """With `opens_engines`, engines of the host are loaded and held against the configuration."""
        self._store = store
        self._pipeline_file = pipeline_file
        self._opens_engines = opens_engines
        self._completed: dict[str, ModelConfig] = {}

    def sorted(self, models: Sequence[str]) -> list[str]:
        """Return models in the order in which they are to be checked: ensembles last."""
        return sorted(models, key=self._is_ensemble)

    def check(self, model: str) -> None:
        """Look at configuration, versions, engine files and labels.

        Raises:
            ModelError, ConfigError: the first that is wrong.
        """
        entry = self._store.entry(model)
        versions = entry.chosen_versions()
        for output in entry.config.outputs:
            entry.labels(output.name)
        if entry.config.ensemble is not None:
            self._check_steps(entry, entry.config.ensemble)
            return
        plan = plan_model(entry, {}, self._pipeline_file)
        check_groups(entry.config, plan.runtime, has_gpu=True)
        for version in versions:
            if plan.runtime != "noop":
                plan.engine_files(version)
            if self._opens_engines:
                self._completed[model] = _check_engine(plan, version)

    def _is_ensemble(self, model: str) -> bool:
        with suppress(EdgertError):  # told by `check`
            return self._store.entry(model).config.ensemble is not None
        return False

    def _check_steps(self, entry: ModelEntry, ensemble: Ensemble) -> None:
        names = self._store.names()
        known: dict[str, ModelConfig] = {}
        for index, step in enumerate(ensemble.steps):
            if step.model not in names:
                raise ModelError(
                    f"{entry.config.file}: field ensemble_scheduling.step[{index}].model_name: found "
                    f"{step.model!r}, expected a model of the store: {', '.join(names)}"
                )
            with suppress(EdgertError):  # told with the step's model
                known[step.model] = self._completed.get(step.model) or self._store.entry(step.model).config
        check_ensemble_models(entry.config, {name: own for name, own in known.items() if _is_whole(own)})


def _is_whole(config: ModelConfig) -> bool:
    """Say whether a configuration, perhaps of an engine that cannot be opened here, leaves nothing out."""
    is_batch_known = config.max_batch_size is not None or config.ensemble is not None
    return bool(config.inputs and config.outputs) and is_batch_known


def _check_engine(plan: ModelPlan, version: ModelVersion) -> ModelConfig:
    """Return the configuration, completed where the engine can be opened without a GPU."""
    if FAMILY_OF_RUNTIME[plan.runtime] is TENSORRT:
        check_model(plan, version)
        return plan.entry.config
    engine = load_engine(plan, version, open_device("host"), 1)
    try:
        info = engine.info
        return complete(plan.entry.config, info.inputs, info.outputs, info.batches, info.runtime)
    finally:
        engine.close()
