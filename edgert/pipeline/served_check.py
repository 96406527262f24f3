"""Holds a model that requests use against its files, without a GPU. What only frames need is not asked."""

from __future__ import annotations

from pathlib import Path

from edgert.device.opened import open_device
from edgert.errors import ModelError
from edgert.models.completion import complete
from edgert.models.model_config import Ensemble
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelEntry, ModelStore, ModelVersion
from edgert.pipeline.instance_groups import check_groups
from edgert.pipeline.model_plan import ModelPlan, plan_model
from edgert.pipeline.open_model import check_model, load_engine


def check_served(store: ModelStore, model: str, pipeline_file: Path, *, opens_engine: bool) -> None:
    """Look at configuration, versions, engine files and labels.

    With `opens_engine`, engines of the host are loaded and held against the configuration.

    Raises:
        ModelError, ConfigError: the first that is wrong.
    """
    entry = store.entry(model)
    versions = entry.chosen_versions()
    for output in entry.config.outputs:
        entry.labels(output.name)
    if entry.config.ensemble is not None:
        _check_steps(entry, entry.config.ensemble, store)
        return
    plan = plan_model(entry, {}, pipeline_file)
    check_groups(entry.config, plan.runtime, has_gpu=True)
    for version in versions:
        if plan.runtime != "noop":
            plan.engine_files(version)
        if opens_engine:
            _check_engine(plan, version)


def _check_steps(entry: ModelEntry, ensemble: Ensemble, store: ModelStore) -> None:
    names = store.names()
    for index, step in enumerate(ensemble.steps):
        if step.model not in names:
            raise ModelError(
                f"{entry.config.file}: field ensemble_scheduling.step[{index}].model_name: found "
                f"{step.model!r}, expected a model of the store: {', '.join(names)}"
            )


def _check_engine(plan: ModelPlan, version: ModelVersion) -> None:
    if FAMILY_OF_RUNTIME[plan.runtime] is TENSORRT:
        check_model(plan, version)
        return
    engine = load_engine(plan, version, open_device("host"), 1)
    try:
        info = engine.info
        complete(plan.entry.config, info.inputs, info.outputs, info.batches, info.runtime)
    finally:
        engine.close()
