"""The requests that config.pbtxt wants answered before a version is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgert.errors import EdgertError, ModelError
from edgert.execute.engine import Completed, Fill, Lane
from edgert.execute.python_buffers import PythonBufferSet
from edgert.frames.result import Array
from edgert.inference.fill import Part
from edgert.models.files import confined
from edgert.models.model_config import ModelConfig, WarmupInput
from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S
from edgert.serve.datatypes import host_dtype, unpack_texts

FOLDER = "warmup"  # beside config.pbtxt
_SEED = 20210

T = TypeVar("T")


def run_warmups(config: ModelConfig, folder: Path, run: Callable[[Part], None]) -> None:
    """Let `run` answer every warmup, as often as it says. `folder` is the model's.

    Raises:
        ModelError: an input cannot be made, or the answer is an error.
    """
    for warmup in config.warmups:
        try:
            axis = (warmup.batch_size,) if config.max_batch_size else ()
            inputs = {name: _input(own, axis, folder) for name, own in warmup.inputs.items()}
            for _ in range(max(warmup.count, 1)):
                run(Part(inputs, *(axis or (1,))))
        except (EdgertError, ValueError, OSError) as error:
            raise ModelError(f"{config.file}: model_warmup {warmup.name!r}: {error}") from error


def run_alone(lane: Lane, fill: Fill, title: str) -> Completed:
    """Run one batch on a lane that nobody else feeds yet. Raises EdgertError: what it failed with."""
    buffers = _await(lane.acquire, title)
    lane.submit(buffers, fill, None)
    [done] = _await(lane.poll, title)
    each = buffers.answers if isinstance(buffers, PythonBufferSet) else None
    errors = [done.error, *(answer for answer in each or () if isinstance(answer, EdgertError))]
    lane.release(buffers)
    for error in filter(None, errors):
        raise error
    return done


def _await(ask: Callable[[], T | None], title: str) -> T:
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise ModelError(f"{title}: no answer in {WARM_UP_TIMEOUT_S:.0f} s")
        time.sleep(0.001)
    return answer


def _input(own: WarmupInput, axis: tuple[int, ...], folder: Path) -> Array:
    shape = axis + own.dims
    if own.kind == "file":
        return _from_file(confined(folder / FOLDER, own.file, folder, "input_data_file"), own, shape)
    if own.dtype == "object":
        texts = np.empty(shape, object)
        texts.fill(b"")
        return texts
    dtype = host_dtype(own.dtype)
    if own.kind == "zero":
        return np.zeros(shape, dtype)
    return _random(shape, dtype)


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return values in 0..1 for floats, 0 or 1 for truths, any for whole numbers; the same every time."""
    generator = np.random.default_rng(_SEED)
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype.name)
    return generator.integers(limits.min, limits.max, shape, np.int64).astype(dtype)


def _from_file(path: Path, own: WarmupInput, shape: tuple[int, ...]) -> Array:
    data = path.read_bytes()
    if own.dtype == "object":
        return unpack_texts(data, int(np.prod(shape))).reshape(shape)
    return np.frombuffer(data, host_dtype(own.dtype)).reshape(shape)
