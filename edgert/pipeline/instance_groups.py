"""Where a model's instances run: what its instance groups ask for against what edgert offers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import msgspec

from edgert.errors import ModelError
from edgert.models.model_config import InstanceGroup, ModelConfig
from edgert.models.runtime import FAMILY_OF_RUNTIME, ONNX, PYTHON, TENSORRT


class LanePlace(msgspec.Struct, frozen=True):
    """Where one lane of a served model runs."""

    group: int = 0  # of its instance groups
    gpu: int = 0  # CUDA's number; a model in Python is told it


def place_lanes(config: ModelConfig, runtime: str, lanes: int = 0) -> tuple[LanePlace, ...]:
    """Return the place of each lane for requests: `count` on each GPU of a group, these in turn.

    `lanes` is how many there are in all, if it is not 0: the first so many, or more of the last group. A
    group that names no GPU is on GPU 0; the Inference Server would take all. ONNX files run on the CPU, so
    there `count` is for all GPUs together.
    """
    groups = config.instance_groups or (InstanceGroup(),)
    places: list[LanePlace] = []
    for index, group in enumerate(groups):
        places += [LanePlace(index, gpu) for gpu in _gpus(group, runtime)] * group.count
    last = cycle([LanePlace(len(groups) - 1, gpu) for gpu in _gpus(groups[-1], runtime)])
    wanted = lanes or len(places)
    return (*places[:wanted], *islice(last, max(0, wanted - len(places))))


def check_groups(config: ModelConfig, runtime: str, *, has_gpu: bool) -> list[str]:
    """Return what is not followed. Raises ModelError for what cannot be had.

    `has_gpu`: the service was started with a GPU. Whether the GPUs are there shows when they are opened.
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


def _gpus(group: InstanceGroup, runtime: str) -> tuple[int, ...]:
    has_devices = FAMILY_OF_RUNTIME[runtime] in (TENSORRT, PYTHON)
    return (group.gpus if has_devices else ()) or (0,)


def _gpu_warnings(group: InstanceGroup, where: str) -> Iterator[str]:
    if group.kind == "KIND_CPU":
        raise ModelError(
            f"{where}.kind: found KIND_CPU, expected KIND_GPU: an engine of TensorRT needs a GPU"
        )
    if group.profile:
        yield f"{where}.profile: is not followed; a batch runs with the profile that fits it"


def _host_warnings(group: InstanceGroup, where: str) -> Iterator[str]:
    if group.kind == "KIND_GPU" or group.gpus:
        yield f"{where}: asks for a GPU; edgert runs ONNX files on the CPU. Build an engine: edgert build"
