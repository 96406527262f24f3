"""A model's configuration in the words in which the Inference Server tells it to its python backend."""

from __future__ import annotations

from typing import Any

from edgert.models.model_config import DTYPE_OF_DATA_TYPE, InstanceGroup, ModelConfig, TensorConfig

_DATA_TYPE_OF_DTYPE = {dtype: data_type for data_type, dtype in DTYPE_OF_DATA_TYPE.items()}


def config_json(config: ModelConfig, model: str) -> dict[str, Any]:
    """Return what models look at, as values of JSON."""
    batching = config.dynamic_batching
    dynamic = batching and {
        "preferred_batch_size": list(batching.preferred_batch_size),
        "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
        "preserve_ordering": batching.preserve_ordering,
    }
    return {
        "name": config.name or model,
        "platform": config.platform,
        "backend": config.backend or "python",
        "max_batch_size": config.max_batch_size or 0,
        "input": [_input(tensor) for tensor in config.inputs],
        "output": [_tensor(tensor) for tensor in config.outputs],
        "instance_group": [_group(group) for group in config.instance_groups],
        "default_model_filename": config.default_model_filename or "model.py",
        "parameters": {key: {"string_value": value} for key, value in config.parameters.items()},
        "model_transaction_policy": {"decoupled": config.is_decoupled},
        **({"dynamic_batching": dynamic} if dynamic else {}),
    }


def _tensor(tensor: TensorConfig) -> dict[str, Any]:
    reshape = {} if tensor.reshape is None else {"reshape": {"shape": list(tensor.reshape)}}
    return {
        "name": tensor.name,
        "data_type": _DATA_TYPE_OF_DTYPE[tensor.dtype],
        "dims": list(tensor.dims),
        "label_filename": tensor.label_filename,
        "is_shape_tensor": tensor.is_shape_tensor,
        **reshape,
    }


def _input(tensor: TensorConfig) -> dict[str, Any]:
    more = {"optional": tensor.optional, "allow_ragged_batch": tensor.allow_ragged_batch}
    return {**_tensor(tensor), "format": tensor.format, **more}


def _group(group: InstanceGroup) -> dict[str, Any]:
    return {"name": group.name, "kind": group.kind, "count": group.count, "gpus": list(group.gpus)}
