"""What an ensemble consists of, and whether the models of its steps are there and fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgert.errors import EdgertError
from edgert.inspect.engine import Report, shape_text
from edgert.models.model_config import Ensemble, EnsembleStep, TensorConfig
from edgert.models.runtime import ENSEMBLE
from edgert.models.store import ModelEntry, ModelStore
from edgert.pipeline.served_check import ServedCheck


def report_ensemble(store: ModelStore, entry: ModelEntry, ensemble: Ensemble) -> Report:
    """Return its tensors and steps; engines of steps that run on the host are loaded, as for a check."""
    config = entry.config
    problem = _problem(store, entry)
    return {
        "model": entry.name,
        "platform": ENSEMBLE,
        "max_batch_size": config.max_batch_size or 0,
        "versions_present": [version.number for version in entry.versions()],
        "inputs": [_tensor_text(tensor, config.max_batch_size or 0) for tensor in config.inputs],
        "outputs": [_tensor_text(tensor, config.max_batch_size or 0) for tensor in config.outputs],
        "steps": [_step(step) for step in ensemble.steps],
        "warnings": list(entry.warnings),
        "runs_here": problem or True,
    }


def _step(step: EnsembleStep) -> Report:
    return {
        "model": step.model,
        "version": "newest" if step.version < 0 else step.version,
        "inputs": _pairs(step.inputs, "from"),
        "outputs": _pairs(step.outputs, "to"),
    }


def _pairs(tensors: Mapping[str, str], how: str) -> list[str]:
    """Return the model's tensors, each with the ensemble's that it is taken from or given to."""
    return [f"{own} {how} {tensor}" for own, tensor in tensors.items()]


def _tensor_text(tensor: TensorConfig, max_batch_size: int) -> str:
    shape = (-1, *tensor.dims) if max_batch_size else tensor.dims
    return f"{tensor.name} {tensor.dtype} {shape_text(shape)}"


def _problem(store: ModelStore, entry: ModelEntry) -> str:
    """Return why it cannot be served here; empty if it can."""
    check = ServedCheck(store, entry.settings.path, opens_engines=True)
    try:
        for model in check.sorted(_with_steps(store, entry.name)):
            check.check(model)
    except EdgertError as error:
        return str(error)
    return ""


def _with_steps(store: ModelStore, model: str) -> Sequence[str]:
    """Return the model and those of its steps that the store has, of their steps too."""
    names, found = store.names(), [model]
    for name in found:
        ensemble = store.entry(name).config.ensemble
        steps = [step.model for step in ensemble.steps] if ensemble else []
        found += [step for step in dict.fromkeys(steps) if step in names and step not in found]
    return found
