"""Where a model's instances run: what its instance groups ask for against what edgert offers."""

from __future__ import annotations

from collections.abc import Iterator

from edgert.errors import ModelError
from edgert.models.model_config import InstanceGroup, ModelConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, ONNX, TENSORRT

_ONE_GPU = "edgert runs models on GPU 0; many GPUs are not offered in this version"


def check_groups(config: ModelConfig, runtime: str, *, has_gpu: bool) -> list[str]:
    """Return what is not followed. Raises ModelError for what cannot be had.

    `has_gpu`: the service was started with a GPU.
    """
    family = FAMILY_OF_RUNTIME[runtime]
    if family is TENSORRT and not has_gpu:
        raise ModelError(
            f"{config.file}: its engine needs a GPU, and the service runs without: no model of the store "
            "needed one when it was started. Reload the service (SIGHUP), or start it again"
        )
    found: list[str] = []
    for index, group in enumerate(config.instance_groups):
        where = f"{config.file}: field instance_group[{index}]"
        if family is TENSORRT:
            found += _gpu_warnings(group, where)
        elif family is ONNX:
            found += _host_warnings(group, where)
    return found


def _gpu_warnings(group: InstanceGroup, where: str) -> Iterator[str]:
    if group.kind == "KIND_CPU":
        raise ModelError(
            f"{where}.kind: found KIND_CPU, expected KIND_GPU: an engine of TensorRT needs a GPU"
        )
    if group.gpus and 0 not in group.gpus:
        raise ModelError(f"{where}.gpus: found {_listed(group.gpus)}, expected 0: {_ONE_GPU}")
    if len(group.gpus) > 1:
        yield f"{where}.gpus: of {_listed(group.gpus)} only 0 is used: {_ONE_GPU}"
    if group.profile:
        yield f"{where}.profile: is not followed; a batch runs with the profile that fits it"


def _host_warnings(group: InstanceGroup, where: str) -> Iterator[str]:
    if group.kind == "KIND_GPU" or group.gpus:
        yield f"{where}: asks for a GPU; edgert runs ONNX files on the CPU. Build an engine: edgert build"


def _listed(gpus: tuple[int, ...]) -> str:
    return ", ".join(map(str, gpus))
