"""Between the tree of a configuration's sequence_batching and `SequenceBatching`."""

from __future__ import annotations

import msgspec

from edgert.models.config_message import Tree
from edgert.models.config_schema import Locate, problem
from edgert.models.config_values import read_dtype, write_dtype
from edgert.models.model_config import Control, SequenceBatching

PATH = "sequence_batching"
IDLE_US = 1_000_000  # what the Inference Server takes for 0
_KIND = "CONTROL_SEQUENCE_"
_DTYPE_OF_VALUES = {
    "int32_false_true": "int32",
    "fp32_false_true": "float32",
    "bool_false_true": "bool",
}
_VALUES_OF_DTYPE = {dtype: field for field, dtype in _DTYPE_OF_VALUES.items()}
_TYPE_OF_DTYPE = {"int32": int, "float32": float, "bool": bool}


def read_sequence(tree: Tree, locate: Locate) -> Tree:
    """Return the fields of `SequenceBatching`. Raises ModelError."""
    kind = "oldest" if "oldest" in tree else "direct"
    options = tree.pop(kind, {})
    idle_us = tree.pop("max_sequence_idle_microseconds", 0) or IDLE_US
    for index, told in enumerate(tree.get("control_input", ())):
        path = f"{PATH}.control_input[{index}]"
        told["control"] = [
            _read_control(control, locate, f"{path}.control[{number}]")
            for number, control in enumerate(told.get("control", ()))
        ]
    for index, state in enumerate(tree.get("state", ())):
        _read_state(state, locate, f"{PATH}.state[{index}]")
    return {**tree, **options, "kind": kind, "max_sequence_idle_microseconds": idle_us}


def write_sequence(batching: SequenceBatching) -> Tree:
    """Return the fields of the message."""
    tree: Tree = msgspec.to_builtins(batching)
    kind, slots = tree.pop("kind"), {"minimum_slot_utilization": tree.pop("minimum_slot_utilization")}
    oldest = {
        name: tree.pop(name)
        for name in ("max_candidate_sequences", "preferred_batch_size", "preserve_ordering")
    }
    options = {"max_queue_delay_microseconds": tree.pop("max_queue_delay_microseconds")}
    tree[kind] = options | (oldest if kind == "oldest" else slots)
    for told, stated in zip(tree["control_input"], batching.controls, strict=True):
        told["control"] = [_write_control(control) for control in stated.controls]
    for state in tree["state"]:
        _write_state(state)
    return tree


def _read_control(tree: Tree, locate: Locate, path: str) -> Tree:
    kind = tree.get("kind", f"{_KIND}START").removeprefix(_KIND)
    given = [field for field in _DTYPE_OF_VALUES if tree.get(field)]
    if kind == "CORRID":
        if given:
            raise problem(locate(f"{path}.{given[0]}"), f"{path}.{given[0]}", f"stands beside {_KIND}CORRID")
        read_dtype(tree)
        return {"kind": kind, "data_type": tree["data_type"]}
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise problem(locate(path), path, f"found {found}, expected one of {', '.join(_DTYPE_OF_VALUES)}")
    values, path = tree[given[0]], f"{path}.{given[0]}"
    if len(values) != 2:
        raise problem(locate(path), path, f"found {values}, expected 2 values, for false and for true")
    return {"kind": kind, "data_type": _DTYPE_OF_VALUES[given[0]], "false_true": list(map(float, values))}


def _write_control(control: Control) -> Tree:
    kind = f"{_KIND}{control.kind}"
    if control.kind == "CORRID":
        tree = {"kind": kind, "data_type": control.dtype}
        write_dtype(tree)
        return tree
    to_type = _TYPE_OF_DTYPE[control.dtype]
    return {"kind": kind, _VALUES_OF_DTYPE[control.dtype]: [to_type(value) for value in control.false_true]}


def _read_state(tree: Tree, locate: Locate, path: str) -> None:
    read_dtype(tree)
    states = tree.pop("initial_state", ())
    if len(states) > 1:
        where = locate(f"{path}.initial_state[1]")
        raise problem(where, f"{path}.initial_state", f"found {len(states)}, expected at most 1")
    for initial in states:
        _read_initial(initial, locate, f"{path}.initial_state[0]")
        tree["initial_state"] = initial


def _read_initial(tree: Tree, locate: Locate, path: str) -> None:
    read_dtype(tree)
    if "zero_data" not in tree and "data_file" not in tree:
        raise problem(locate(path), path, "has none of zero_data, data_file")
    is_zero = tree.pop("zero_data", None) is not None
    tree |= {"kind": "zero" if is_zero else "file", "file": tree.pop("data_file", "")}


def _write_state(tree: Tree) -> None:
    write_dtype(tree)
    initial = tree["initial_state"]
    tree["initial_state"] = [initial] if initial else []
    if initial:
        write_dtype(initial)
        kind, file = initial.pop("kind"), initial.pop("file")
        initial |= {"zero_data": True} if kind == "zero" else {"data_file": file}
