"""What sequence_batching must satisfy beyond its types, alone and against an engine's tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgert.models.config_schema import Locate, problem
from edgert.models.model_config import (
    ControlInput,
    InitialState,
    ModelConfig,
    SequenceBatching,
    SequenceState,
    TensorConfig,
)
from edgert.models.sequence_tree import PATH
from edgert.models.tensor_spec import TensorSpec

CORRID_DTYPES = ("uint64", "int64", "uint32", "int32", "object")


def check_sequence(config: ModelConfig, locate: Locate) -> None:
    """Raise ModelError for the first field of sequence_batching that is wrong."""
    batching = config.sequence_batching
    if batching is None:
        return
    _check_options(batching, config.max_batch_size, locate)
    _check_controls(batching, locate)
    _check_states(batching, config, locate)
    if config.uses_response_cache:
        raise problem(locate("response_cache"), "response_cache", f"stands beside {PATH}, expected only one")


def check_sequence_tensors(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
) -> None:
    """Raise ModelError for a control or state that is not among the engine's tensors as it is stated."""
    batching = config.sequence_batching or SequenceBatching()
    taken, given = ({spec.name: spec for spec in specs} for specs in (inputs, outputs))
    for index, told in enumerate(batching.controls):
        path = f"{PATH}.control_input[{index}]"
        _find(taken, told.name, told.controls[0].dtype, config.file, path, "name")
    for index, state in enumerate(batching.states):
        path = f"{PATH}.state[{index}]"
        sides = (
            _find(taken, state.input_name, state.dtype, config.file, path, "input_name"),
            _find(given, state.output_name, state.dtype, config.file, path, "output_name"),
        )
        for spec in sides:
            shape = spec.shape[1:] if max_batch_size else spec.shape
            if not _fits(state.dims, shape):
                what = f"found {list(state.dims)}, expected {list(shape)} as the engine's {spec.name!r} has"
                raise problem(config.file, f"{path}.dims", what)


def _find(
    specs: dict[str, TensorSpec], name: str, dtype: str, file: str, path: str, field: str
) -> TensorSpec:
    if name not in specs:
        listed = ", ".join(specs) or "none"
        raise problem(file, f"{path}.{field}", f"found {name!r}, expected one of the engine's: {listed}")
    if specs[name].dtype != dtype:
        raise problem(file, path, f"found {dtype}, expected {specs[name].dtype} as the engine has")
    return specs[name]


def _check_options(batching: SequenceBatching, largest: int | None, locate: Locate) -> None:
    path = f"{PATH}.{batching.kind}"
    share = batching.minimum_slot_utilization
    if not 0 <= share <= 1:
        place = f"{path}.minimum_slot_utilization"
        raise problem(locate(place), place, f"found {share:g}, expected 0 to 1")
    if batching.kind == "oldest" and batching.max_candidate_sequences < 1:
        place = f"{path}.max_candidate_sequences"
        raise problem(locate(place), place, f"found {batching.max_candidate_sequences}, expected 1 or more")
    for size in batching.preferred_batch_size:
        if size < 1 or (largest is not None and size > largest):
            place = f"{path}.preferred_batch_size"
            raise problem(locate(place), place, f"found {size}, expected 1 to max_batch_size, {largest}")


def _check_controls(batching: SequenceBatching, locate: Locate) -> None:
    names: set[str] = set()
    kinds: set[str] = set()
    for index, told in enumerate(batching.controls):
        path = f"{PATH}.control_input[{index}]"
        _check_name(told.name, names, locate, f"{path}.name")
        _check_control(told, kinds, locate, path)


def _check_control(told: ControlInput, kinds: set[str], locate: Locate, path: str) -> None:
    if len(told.controls) != 1:
        raise problem(locate(path), path, f"found {len(told.controls)} controls, expected 1 for each input")
    control, path = told.controls[0], f"{path}.control[0]"
    if control.kind in kinds:
        raise problem(
            locate(f"{path}.kind"), f"{path}.kind", f"found {control.kind} again, expected each kind once"
        )
    kinds.add(control.kind)
    if control.kind == "CORRID" and control.dtype not in CORRID_DTYPES:
        found = control.dtype or "none"
        raise problem(
            locate(f"{path}.data_type"),
            f"{path}.data_type",
            f"found {found}, expected one of {', '.join(CORRID_DTYPES)}",
        )
    if not all(map(math.isfinite, control.false_true)):
        raise problem(locate(path), path, f"found {control.false_true}, expected finite values")


def _check_states(batching: SequenceBatching, config: ModelConfig, locate: Locate) -> None:
    taken = {told.name for told in batching.controls}
    given: set[str] = set()
    inputs, outputs = ({tensor.name: tensor for tensor in side} for side in (config.inputs, config.outputs))
    for index, state in enumerate(batching.states):
        path = f"{PATH}.state[{index}]"
        _check_name(state.input_name, taken, locate, f"{path}.input_name")
        _check_name(state.output_name, given, locate, f"{path}.output_name")
        _check_state(state, locate, path)
        for tensor in (inputs.get(state.input_name), outputs.get(state.output_name)):
            _check_stated(state, tensor, locate, path)
        if state.initial is not None:
            _check_initial(state, state.initial, locate, f"{path}.initial_state[0]")


def _check_name(name: str, names: set[str], locate: Locate, path: str) -> None:
    if not name:
        raise problem(locate(path), path, "not given, expected the tensor's name")
    if name in names:
        raise problem(locate(path), path, f"found {name!r} again, expected each name once")
    names.add(name)


def _check_state(state: SequenceState, locate: Locate, path: str) -> None:
    if not state.dtype:
        raise problem(
            locate(f"{path}.data_type"), f"{path}.data_type", "not given, expected the state's type"
        )
    for side in state.dims:
        if side < -1:
            place = f"{path}.dims"
            raise problem(
                locate(place), place, f"found {side}, expected 0 or more, or -1 for a variable side"
            )


def _check_stated(state: SequenceState, tensor: TensorConfig | None, locate: Locate, path: str) -> None:
    """Hold a state against an input or output of the same name, if the file lists one."""
    if tensor is not None and tensor.dtype not in ("", state.dtype):
        place = f"{path}.data_type"
        what = f"found {state.dtype}, expected {tensor.dtype} as {tensor.name!r} has"
        raise problem(locate(place), place, what)
    if tensor is not None and tensor.dims and not _fits(state.dims, tensor.engine_dims):
        place = f"{path}.dims"
        what = f"found {list(state.dims)}, expected {list(tensor.engine_dims)} as {tensor.name!r} has"
        raise problem(locate(place), place, what)


def _check_initial(state: SequenceState, initial: InitialState, locate: Locate, path: str) -> None:
    if not initial.name:
        raise problem(locate(f"{path}.name"), f"{path}.name", "not given, expected a name")
    if initial.dtype != state.dtype:
        found = initial.dtype or "none"
        what = f"found {found}, expected {state.dtype} as the state has"
        raise problem(locate(f"{path}.data_type"), f"{path}.data_type", what)
    if any(side < 0 for side in initial.dims) or not _fits(initial.dims, state.dims):
        what = f"found {list(initial.dims)}, expected {list(state.dims)} without variable sides"
        raise problem(locate(f"{path}.dims"), f"{path}.dims", what)
    if initial.kind == "file" and not initial.file:
        raise problem(locate(f"{path}.data_file"), f"{path}.data_file", "found '', expected a file's name")


def _fits(stated: Sequence[int], actual: Sequence[int]) -> bool:
    sides = zip(stated, actual, strict=False)
    return len(stated) == len(actual) and all(a == b or -1 in (a, b) for a, b in sides)
