"""What a configuration must satisfy beyond its types, before any engine is known."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from edgert.models.config_schema import Locate, problem
from edgert.models.ensemble_checks import check_ensemble
from edgert.models.model_config import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
)
from edgert.models.sequence_checks import check_sequence
from edgert.models.warmup_checks import check_warmups


def check_config(config: ModelConfig, locate: Locate, model: str = "") -> None:
    """Raise ModelError for the first field that is wrong; `model` is the name it must have, if any."""
    if model and config.name not in ("", model):
        raise problem(locate("name"), "name", f"found {config.name!r}, expected its folder's name, {model!r}")
    if config.max_batch_size is not None:
        _check_least(config.max_batch_size, 0, locate, "max_batch_size")
    _check_tensors(config.inputs, locate, "input")
    _check_tensors(config.outputs, locate, "output")
    _check_policy(config.version_policy, locate)
    for index, group in enumerate(config.instance_groups):
        _check_group(group, locate, f"instance_group[{index}]")
    _check_capabilities(config, locate)
    if config.dynamic_batching is not None:
        _check_priorities(config.dynamic_batching, locate)
        _check_ordering(config.dynamic_batching, locate)
    check_preferred(config, locate)
    check_sequence(config, locate)
    check_ensemble(config, locate, model)
    check_warmups(config, locate)
    if config.uses_response_cache and config.is_decoupled:
        path = "response_cache"
        raise problem(locate(path), path, "stands beside model_transaction_policy.decoupled")


def check_preferred(config: ModelConfig, locate: Locate) -> None:
    """Raise ModelError if a preferred batch size is not positive or is over `max_batch_size`."""
    batching, largest = config.dynamic_batching, config.max_batch_size
    path = "dynamic_batching.preferred_batch_size"
    for size in batching.preferred_batch_size if batching else ():
        _check_least(size, 1, locate, path)
        if largest is not None and size > largest:
            raise problem(locate(path), path, f"found {size}, expected at most max_batch_size, {largest}")


def _check_least(value: int, least: int, locate: Locate, path: str) -> None:
    if value < least:
        raise problem(locate(path), path, f"found {value}, expected {least} or more")


def _check_tensors(tensors: Sequence[TensorConfig], locate: Locate, kind: str) -> None:
    names: set[str] = set()
    for index, tensor in enumerate(tensors):
        path = f"{kind}[{index}]"
        if not tensor.name:
            raise problem(locate(f"{path}.name"), f"{path}.name", "not given, expected the tensor's name")
        if tensor.name in names:
            raise problem(
                locate(f"{path}.name"),
                f"{path}.name",
                f"found {tensor.name!r} again, expected each name once",
            )
        names.add(tensor.name)
        _check_shapes(tensor, locate, path)


def _check_shapes(tensor: TensorConfig, locate: Locate, path: str) -> None:
    for side in tensor.dims:
        _check_side(side, locate, f"{path}.dims")
    for side in tensor.reshape or ():
        _check_side(side, locate, f"{path}.reshape.shape")
    if tensor.dims and tensor.reshape is not None and _segments(tensor.dims) != _segments(tensor.reshape):
        raise problem(
            locate(f"{path}.reshape.shape"),
            f"{path}.reshape.shape",
            f"found {list(tensor.reshape)}, expected as many elements as dims {list(tensor.dims)} "
            "between the same variable sides",
        )


def _check_side(side: int, locate: Locate, path: str) -> None:
    if side < -1:
        raise problem(locate(path), path, f"found {side}, expected 0 or more, or -1 for a variable side")


def _segments(shape: Sequence[int]) -> list[int]:
    """Return the elements before, between and after the variable sides; a reshape must keep them."""
    ends = [index for index, side in enumerate(shape) if side == -1]
    starts = [0, *(end + 1 for end in ends)]
    return [math.prod(shape[a:b]) for a, b in zip(starts, [*ends, len(shape)], strict=True)]


def _check_policy(policy: VersionPolicy, locate: Locate) -> None:
    _check_least(policy.count, 1, locate, "version_policy.latest.num_versions")
    path = "version_policy.specific.versions"
    if policy.kind == "specific" and not policy.versions:
        raise problem(locate(path), path, "found none, expected at least one version")
    for version in policy.versions:
        _check_least(version, 1, locate, path)


def _check_group(group: InstanceGroup, locate: Locate, path: str) -> None:
    _check_least(group.count, 1, locate, f"{path}.count")
    for gpu in group.gpus:
        _check_least(gpu, 0, locate, f"{path}.gpus")
    for index, resource in enumerate(group.rate_limit.resources if group.rate_limit else ()):
        place = f"{path}.rate_limiter.resources[{index}].name"
        if not resource.name:
            raise problem(locate(place), place, "not given, expected the resource's name")
    for index, device in enumerate(group.secondary_devices):
        _check_least(device.device_id, 0, locate, f"{path}.secondary_devices[{index}].device_id")
    if group.gpus and group.kind in ("KIND_CPU", "KIND_MODEL"):
        raise problem(
            locate(f"{path}.gpus"), f"{path}.gpus", f"given with {group.kind}, expected KIND_GPU or KIND_AUTO"
        )


def _check_capabilities(config: ModelConfig, locate: Locate) -> None:
    for capability in config.cc_model_filenames:
        if not re.fullmatch(r"[0-9]+\.[0-9]+", capability, re.ASCII):
            raise problem(
                locate("cc_model_filenames"),
                "cc_model_filenames",
                f"found key {capability!r}, expected a compute capability such as '8.7'",
            )


def _check_priorities(batching: DynamicBatching, locate: Locate) -> None:
    levels, default = batching.priority_levels, batching.default_priority_level
    path = "dynamic_batching.default_priority_level"
    if levels and not 1 <= default <= levels:
        raise problem(locate(path), path, f"found {default}, expected 1 to {levels}, the priority_levels")
    if default and not levels:
        raise problem(locate(path), path, f"found {default}, expected priority_levels beside it")
    path = "dynamic_batching.priority_queue_policy"
    for level in batching.priority_queue_policy if levels else ():
        if not 1 <= level <= levels:
            raise problem(
                locate(path), path, f"found key {level}, expected 1 to {levels}, the priority_levels"
            )


def _check_ordering(batching: DynamicBatching, locate: Locate) -> None:
    path = "dynamic_batching.preserve_ordering"
    if batching.preserve_ordering and batching.priority_levels > 1:
        raise problem(locate(path), path, f"stands beside {batching.priority_levels} priority_levels")
    policies = (batching.default_queue_policy, *batching.priority_queue_policy.values())
    if batching.preserve_ordering and any(policy.timeout_action == "DELAY" for policy in policies):
        raise problem(locate(path), path, "stands beside timeout_action: DELAY, expected REJECT")
