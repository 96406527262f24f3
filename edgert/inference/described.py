"""What clients have to know of a model that is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgert.inference.open_version import hidden_inputs
from edgert.inference.served_version import ServedVersion
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.serve.core import ModelMetadata, TensorMetadata
from edgert.serve.datatypes import DATATYPE_OF_DTYPE


def metadata_of(served: ServedVersion, versions: Sequence[ServedVersion]) -> ModelMetadata:
    """Return the tensors of a version, under the numbers of `versions`. Sequences' controls are no inputs."""
    config = served.config
    hidden = hidden_inputs(config)
    return ModelMetadata(
        served.name,
        tuple(str(version.version) for version in versions),
        config.platform or config.backend,
        tuple(_tensor(config, tensor) for tensor in config.inputs if tensor.name not in hidden),
        tuple(_tensor(config, tensor) for tensor in config.outputs),
    )


def cancelled(versions: Iterable[ServedVersion]) -> int:
    """Return how many requests were given up by those who sent them."""
    return sum(served.statistics().failures.get("CANCELED", 0) for served in versions)


def _tensor(config: ModelConfig, tensor: TensorConfig) -> TensorMetadata:
    axis = (-1,) if config.max_batch_size and not tensor.is_shape_tensor else ()
    return TensorMetadata(tensor.name, DATATYPE_OF_DTYPE[tensor.dtype], axis + tensor.dims)
