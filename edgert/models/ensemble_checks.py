"""What an ensemble must satisfy: each tensor is made once and used, in no circle, and fits its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgert.models.config_schema import Locate, problem
from edgert.models.model_config import AUTO_MAX_BATCH_SIZE, EnsembleStep, ModelConfig, TensorConfig
from edgert.models.runtime import ENSEMBLE

PATH = "ensemble_scheduling"


def check_ensemble(config: ModelConfig, locate: Locate, model: str = "") -> None:
    """Raise ModelError for the first field that is wrong in an ensemble; `model` is its own name."""
    if config.ensemble is None:
        if config.platform == ENSEMBLE:
            raise problem(locate("platform"), "platform", f"found {ENSEMBLE!r}, expected {PATH} beside it")
        return
    _check_kind(config, locate)
    for index, step in enumerate(config.ensemble.steps):
        _check_step(step, model or config.name, locate, _step_path(index))
    if not config.ensemble.steps:
        raise problem(locate(f"{PATH}.step"), f"{PATH}.step", "not given, expected at least one step")
    _check_tensors(config, locate)
    _check_use(config, config.ensemble.steps, locate)
    _check_order(config, config.ensemble.steps, locate)


def check_ensemble_models(config: ModelConfig, models: Mapping[str, ModelConfig]) -> None:
    """Raise ModelError where a step does not fit its model; `models` are completed, by name.

    Steps of which the model is not there are left out.
    """
    known = {tensor.name: _Tensor(config, tensor) for tensor in (*config.inputs, *config.outputs)}
    for index, step in enumerate(config.ensemble.steps if config.ensemble else ()):
        model = models.get(step.model)
        if model is not None:
            _check_batch(config, step, model)
            for field, name, tensor in _pairs(config, step, model, _step_path(index)):
                first = known.setdefault(name, tensor)
                first.check_same(tensor, config.file, f"{_step_path(index)}.{field}", name)


class _Tensor:
    """A tensor as one model declares it, the batch axis included."""

    def __init__(self, model: ModelConfig, tensor: TensorConfig) -> None:
        self._place = f"{model.name}.{tensor.name}"
        self._dtype = tensor.dtype
        self._shape = (-1, *tensor.dims) if model.max_batch_size else tensor.dims

    def check_same(self, other: _Tensor, file: str, path: str, name: str) -> None:
        """Raise ModelError if the two cannot be one tensor."""
        pairs = list(zip(self._shape, other._shape, strict=False))
        fits = len(self._shape) == len(other._shape) and all(a == b or -1 in (a, b) for a, b in pairs)
        if self._dtype != other._dtype or not fits:
            raise problem(file, path, f"tensor {name!r} is {self} and {other}, expected one type and shape")

    def __str__(self) -> str:
        return f"{self._dtype} {list(self._shape)} in {self._place}"


def _step_path(index: int) -> str:
    return f"{PATH}.step[{index}]"


def _check_kind(config: ModelConfig, locate: Locate) -> None:
    if config.platform != ENSEMBLE:
        found = repr(config.platform) if config.platform else "none"
        raise problem(locate("platform"), "platform", f"found {found}, expected {ENSEMBLE!r} beside {PATH}")
    misplaced = {
        "backend": config.backend,
        "instance_group": config.instance_groups,
        "model_warmup": config.warmups,
        "default_model_filename": config.default_model_filename,
    }
    for path, value in misplaced.items():
        if value:
            raise problem(locate(path), path, "given for an ensemble, which has only its steps")


def _check_step(step: EnsembleStep, own_name: str, locate: Locate, path: str) -> None:
    name = f"{path}.model_name"
    if not step.model:
        raise problem(locate(name), name, "not given, expected a model's name")
    if step.model == own_name:
        raise problem(
            locate(name), name, f"found {step.model!r}, the ensemble itself, expected another model"
        )
    if step.version < 1 and step.version != -1:
        version = f"{path}.model_version"
        raise problem(
            locate(version), version, f"found {step.version}, expected 1 or more, or -1: the newest"
        )
    for field, pairs in (("input_map", step.inputs), ("output_map", step.outputs)):
        place = f"{path}.{field}"
        if not pairs:
            raise problem(locate(place), place, "not given, expected at least one tensor")
        for own, tensor in pairs.items():
            if not own or not tensor:
                raise problem(locate(place), place, f"found key {own!r} and value {tensor!r}, expected names")


def _check_tensors(config: ModelConfig, locate: Locate) -> None:
    for field, tensors in (("input", config.inputs), ("output", config.outputs)):
        if not tensors:
            raise problem(locate(field), field, "not given, expected it for an ensemble")
        for index, tensor in enumerate(tensors):
            path = f"{field}[{index}].data_type"
            if not tensor.dtype:
                raise problem(locate(path), path, "not given, expected it for an ensemble")


def _check_use(config: ModelConfig, steps: tuple[EnsembleStep, ...], locate: Locate) -> None:
    """See to it that every tensor comes from one place and goes to at least one."""
    sources = {tensor.name for tensor in config.inputs}
    for index, step in enumerate(steps):
        path = f"{_step_path(index)}.output_map"
        for tensor in step.outputs.values():
            if tensor in sources:
                raise problem(locate(path), path, f"found {tensor!r} again, expected each tensor made once")
            sources.add(tensor)
    _check_sources(config, steps, sources, locate)
    used = {tensor for step in steps for tensor in step.inputs.values()}
    for index, given in enumerate(config.inputs):
        if given.name not in used:
            raise problem(locate(f"input[{index}]"), f"input[{index}]", f"{given.name!r} is used by no step")
    used |= {tensor.name for tensor in config.outputs}
    for index, step in enumerate(steps):
        path = f"{_step_path(index)}.output_map"
        for tensor in step.outputs.values():
            if tensor not in used:
                raise problem(locate(path), path, f"{tensor!r} is no output and is used by no step")


def _check_sources(
    config: ModelConfig, steps: tuple[EnsembleStep, ...], sources: set[str], locate: Locate
) -> None:
    for index, step in enumerate(steps):
        path = f"{_step_path(index)}.input_map"
        for tensor in step.inputs.values():
            if tensor not in sources:
                raise problem(locate(path), path, f"{tensor!r} is no input and is made by no step")
    made = {tensor for step in steps for tensor in step.outputs.values()}
    for index, output in enumerate(config.outputs):
        if output.name not in made:
            path = f"output[{index}]"
            raise problem(locate(path), path, f"{output.name!r} is made by no step")


def _check_order(config: ModelConfig, steps: tuple[EnsembleStep, ...], locate: Locate) -> None:
    """Run the steps without models; what cannot begin waits in a circle."""
    there = {tensor.name for tensor in config.inputs}
    waiting = dict(enumerate(steps))
    while begun := [index for index, step in waiting.items() if there.issuperset(step.inputs.values())]:
        for index in begun:
            there.update(waiting.pop(index).outputs.values())
    for index, step in waiting.items():
        path = f"{_step_path(index)}.input_map"
        lacking = sorted(set(step.inputs.values()) - there)
        others = ", ".join(f"step[{number}]" for number in waiting)
        raise problem(
            locate(path), path, f"{', '.join(lacking)} never comes: {others} wait for each other in a circle"
        )


def _check_batch(config: ModelConfig, step: EnsembleStep, model: ModelConfig) -> None:
    largest, allowed = config.max_batch_size or 0, model.max_batch_size or 0
    if largest > allowed:
        is_default = allowed == AUTO_MAX_BATCH_SIZE
        hint = f" ({allowed} is the default where its config.pbtxt gives none)" if is_default else ""
        raise problem(
            config.file,
            "max_batch_size",
            f"found {largest}, expected at most {allowed}, which model {step.model!r} takes{hint}",
        )


def _pairs(
    config: ModelConfig, step: EnsembleStep, model: ModelConfig, path: str
) -> Iterator[tuple[str, str, _Tensor]]:
    """Yield field, the ensemble's name and the model's tensor of each pair; and see what is missing."""
    sides = (("input_map", step.inputs, model.inputs), ("output_map", step.outputs, model.outputs))
    for field, pairs, tensors in sides:
        theirs = {tensor.name: tensor for tensor in tensors}
        for own, tensor in pairs.items():
            if own not in theirs:
                listed = ", ".join(theirs) or "none"
                what = f"found key {own!r}, expected one of model {step.model!r}: {listed}"
                raise problem(config.file, f"{path}.{field}", what)
            yield field, tensor, _Tensor(model, theirs[own])
    given = {tensor.name for tensor in model.inputs if not tensor.optional}
    if missing := sorted(given - step.inputs.keys()):
        what = f"lacks {', '.join(missing)}, which model {step.model!r} needs"
        raise problem(config.file, f"{path}.input_map", what)
