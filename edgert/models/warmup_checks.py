"""What model_warmup must satisfy beyond its types."""

from __future__ import annotations

from edgert.models.config_schema import Locate, problem
from edgert.models.model_config import ModelConfig, TensorConfig, Warmup, WarmupInput

PATH = "model_warmup"


def check_warmups(config: ModelConfig, locate: Locate) -> None:
    """Raise ModelError for the first warmup that is wrong. That no input is missing is seen when it runs."""
    inputs = {tensor.name: tensor for tensor in config.inputs}
    for index, warmup in enumerate(config.warmups):
        path = f"{PATH}[{index}]"
        _check_batch(warmup, config.max_batch_size, locate, f"{path}.batch_size")
        for name, wanted in warmup.inputs.items():
            _check_input(name, wanted, inputs.get(name), locate, f"{path}.inputs")


def _check_batch(warmup: Warmup, largest: int | None, locate: Locate, path: str) -> None:
    found = f"found {warmup.batch_size}, expected"
    if warmup.batch_size < 1:
        raise problem(locate(path), path, f"{found} 1 or more")
    if largest is not None and warmup.batch_size > max(largest, 1):
        raise problem(locate(path), path, f"{found} at most max_batch_size, {max(largest, 1)}")


def _check_input(
    name: str, wanted: WarmupInput, stated: TensorConfig | None, locate: Locate, path: str
) -> None:
    if not wanted.dtype:
        raise problem(locate(path), path, f"{name!r} has no data_type")
    if any(side < 0 for side in wanted.dims):
        raise problem(locate(path), path, f"{name!r} has dims {list(wanted.dims)}, expected no variable side")
    if wanted.kind == "file" and not wanted.file:
        raise problem(locate(path), path, f"{name!r} has no input_data_file, expected its name")
    if stated is not None and stated.dtype not in ("", wanted.dtype):
        raise problem(locate(path), path, f"{name!r} is {wanted.dtype}, expected {stated.dtype} as input")
    if stated is not None and stated.dims and not _fits(wanted.dims, stated.dims):
        what = f"{name!r} has dims {list(wanted.dims)}, expected {list(stated.dims)} as input"
        raise problem(locate(path), path, what)


def _fits(wanted: tuple[int, ...], stated: tuple[int, ...]) -> bool:
    pairs = zip(wanted, stated, strict=False)
    return len(wanted) == len(stated) and all(side in (a, -1) for a, side in pairs)
