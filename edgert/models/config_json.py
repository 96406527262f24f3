"""What clients of the Inference Server send and get of a model's configuration: JSON, or protobuf."""

from __future__ import annotations

from edgert.models.config_message import ConfigMessage, Tree, all_fields, message_of, message_of_json
from edgert.models.config_schema import problem
from edgert.models.config_tree import Reading, read_message, tree_of
from edgert.models.model_config import ModelConfig
from edgert.models.runtime import ENSEMBLE, TENSORRT, family_of

_MAX_REASON = 300  # characters; what is wrong may be quoted in it


def config_to_json(config: ModelConfig) -> Tree:
    """Return a completed configuration as the Inference Server shows it.

    Where it writes whole numbers in quotes (the dims of an initial state), they are numbers here.
    """
    return all_fields(config_to_message(config))


def config_to_message(config: ModelConfig) -> ConfigMessage:
    """Return a completed configuration with what the Inference Server adds to it, as protobuf."""
    tree = tree_of(config)
    family = family_of(config)
    if config.ensemble is not None:
        tree |= {"platform": ENSEMBLE, "model_transaction_policy": {"decoupled": config.is_decoupled}}
        return message_of(tree)
    if family is not None:
        tree |= {"platform": family.platform, "backend": family.backend}
        tree["default_model_filename"] = config.default_model_filename or family.filename
    pinned = {"enable": True}
    defaults = {"input_pinned_memory": pinned, "output_pinned_memory": pinned}
    tree["optimization"] = defaults | tree.get("optimization", {})
    _fill_groups(tree, config, "KIND_GPU" if family is TENSORRT else "KIND_CPU")
    _fill_preferred(tree, config.max_batch_size or 0)
    return message_of(tree)


def config_from_json(text: str, model: str, file: str) -> Reading:
    """Read what a client gives in place of config.pbtxt; `file` is for messages.

    Raises:
        ModelError: it is not JSON, has a field that is not known, or is wrong; the message names the field.
    """
    try:
        message = message_of_json(text)
    except ValueError as error:
        raise problem(file, "", f"not a configuration in JSON: {str(error)[:_MAX_REASON]}") from None
    return read_message(message, file, lambda _: file, model)


def _fill_groups(tree: Tree, config: ModelConfig, kind: str) -> None:
    if not config.instance_groups:
        tree["instance_group"] = [{"name": config.name, "count": 1, "kind": kind}]
    for index, group in enumerate(tree["instance_group"]):
        group["name"] = group["name"] or f"{config.name}_{index}"
        group["kind"] = kind if group["kind"] == "KIND_AUTO" else group["kind"]


def _fill_preferred(tree: Tree, max_batch_size: int) -> None:
    sequences = tree["sequence_batching"] or {}
    for batching in (tree["dynamic_batching"], sequences.get("oldest")):
        if batching is not None and not batching["preferred_batch_size"] and max_batch_size:
            batching["preferred_batch_size"] = [max_batch_size]
