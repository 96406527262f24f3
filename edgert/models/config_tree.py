"""Between the tree of a configuration's message and `ModelConfig`."""

from __future__ import annotations

import msgspec

from edgert.models.config_checks import check_config
from edgert.models.config_message import (
    ConfigMessage,
    Tree,
    given_fields,
    ignored_fields,
    message_class,
    message_of,
)
from edgert.models.config_schema import MESSAGES, Fields, Locate, problem
from edgert.models.config_values import read_dtype, write_dtype
from edgert.models.model_config import DynamicBatching, ModelConfig, QueuePolicy
from edgert.models.sequence_tree import read_sequence, write_sequence

# Kept as they are, so that who asks for the configuration gets all of it.
_REST = (
    "runtime",
    "batch_input",
    "batch_output",
    "optimization",
    "model_operations",
    "model_repository_agents",
    "model_metrics",
)
_WARMUP_KINDS = {"zero_data": "zero", "random_data": "random", "input_data_file": "file"}
_WARMUP_FIELDS = {kind: field for field, kind in _WARMUP_KINDS.items()}


class Reading(msgspec.Struct, frozen=True):
    """A configuration, and a sentence for each field given that edgert does not know or follow."""

    config: ModelConfig
    warnings: tuple[str, ...] = ()


def read_message(message: ConfigMessage, file: str, locate: Locate, model: str = "") -> Reading:
    """Return what a message means; a `name` in it must be `model`, if that is given. Raises ModelError."""
    tree = given_fields(message)
    warnings = tuple(
        f"{locate(path)}: field {path} is not followed by this version" for path in ignored_fields(tree)
    )
    config = config_of(tree, file, locate)
    check_config(config, locate, model)
    return Reading(msgspec.structs.replace(config, name=config.name or model), warnings)


def config_of(tree: Tree, file: str, locate: Locate) -> ModelConfig:
    """Return what the fields that are given mean. Raises ModelError."""
    rest = {name: tree.pop(name) for name in _REST if name in tree}
    for tensor in [*tree.get("input", ()), *tree.get("output", ())]:
        _read_tensor(tensor)
    if "sequence_batching" in tree:
        tree["sequence_batching"] = read_sequence(tree["sequence_batching"], locate)
    for index, warmup in enumerate(tree.get("model_warmup", ())):
        _read_warmup(warmup, locate, f"model_warmup[{index}]")
    parameters = {key: value.get("string_value", "") for key, value in tree.get("parameters", {}).items()}
    tree |= {
        "version_policy": _read_policy(tree.get("version_policy", {})),
        "parameters": parameters,
        "uses_response_cache": tree.pop("response_cache", {}).get("enable", False),
        "is_decoupled": tree.pop("model_transaction_policy", {}).get("decoupled", False),
        "rest": message_of(rest).SerializeToString(deterministic=True),
        "file": file,
    }
    return msgspec.convert(tree, ModelConfig, str_keys=True)


def tree_of(config: ModelConfig) -> Tree:
    """Return the configuration's fields; None where one is not given."""
    tree: Tree = msgspec.to_builtins(msgspec.structs.replace(config, rest=b""), str_keys=True)
    for field, message in (("input", "ModelInput"), ("output", "ModelOutput")):
        for tensor in tree[field]:
            _write_tensor(tensor, MESSAGES[message])
    if config.dynamic_batching:
        _write_batching(tree["dynamic_batching"], config.dynamic_batching)
    if config.sequence_batching:
        tree["sequence_batching"] = write_sequence(config.sequence_batching)
    for warmup in tree["model_warmup"]:
        for wanted in warmup["inputs"].values():
            _write_warmup_input(wanted)
    tree |= {
        "version_policy": _write_policy(tree["version_policy"]),
        "parameters": {key: {"string_value": value} for key, value in config.parameters.items()},
        "response_cache": {"enable": True} if tree.pop("uses_response_cache") else None,
        "model_transaction_policy": {"decoupled": True} if tree.pop("is_decoupled") else None,
    }
    del tree["file"], tree["rest"]
    return {**tree, **_rest(config)}


def _rest(config: ModelConfig) -> Tree:
    message = message_class()()
    message.ParseFromString(config.rest)
    return given_fields(message)


def _read_tensor(tree: Tree) -> None:
    read_dtype(tree)
    tree["reshape"] = tree["reshape"].get("shape", ()) if "reshape" in tree else None


def _write_tensor(tree: Tree, fields: Fields) -> None:
    for name in tree.keys() - fields.keys():
        del tree[name]
    write_dtype(tree)
    tree["reshape"] = {"shape": tree["reshape"]} if tree["reshape"] is not None else None


def _read_policy(tree: Tree) -> Tree:
    kind = next(iter(tree), "latest")
    options = tree.get(kind, {})
    return {"kind": kind, "count": options.get("num_versions", 1), "versions": options.get("versions", ())}


def _write_policy(tree: Tree) -> Tree:
    options = {"latest": {"num_versions": tree["count"]}, "specific": {"versions": tree["versions"]}}
    return {tree["kind"]: options.get(tree["kind"], {})}


def _write_batching(tree: Tree, batching: DynamicBatching) -> None:
    if batching.default_queue_policy == QueuePolicy():
        del tree["default_queue_policy"]


def _read_warmup(tree: Tree, locate: Locate, path: str) -> None:
    tree["count"] = tree.get("count", 0) or 1
    path = f"{path}.inputs"
    for name, wanted in tree.get("inputs", {}).items():
        read_dtype(wanted)
        given = [field for field in _WARMUP_KINDS if field in wanted]
        if not given:
            raise problem(locate(path), path, f"{name!r} has none of {', '.join(_WARMUP_KINDS)}")
        value = wanted.pop(given[0])
        wanted |= {"kind": _WARMUP_KINDS[given[0]], "file": value if isinstance(value, str) else ""}


def _write_warmup_input(tree: Tree) -> None:
    write_dtype(tree)
    kind, file = tree.pop("kind"), tree.pop("file")
    tree[_WARMUP_FIELDS[kind]] = file if kind == "file" else True
