"""The requests that config.pbtxt wants answered before a version is ready."""

from __future__ import annotations

from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from edgert.errors import EdgertError, ModelError
from edgert.frames.request import InferRequest, InferResponse
from edgert.frames.result import Array
from edgert.inference.served_version import ServedVersion
from edgert.models.files import confined
from edgert.models.model_config import Warmup, WarmupInput
from edgert.serve.datatypes import host_dtype, unpack_texts

FOLDER = "warmup"  # beside config.pbtxt
TIMEOUT_S = 120.0
_SEED = 20210


def run_warmups(served: ServedVersion, folder: Path, lanes: int) -> None:
    """Let every lane answer every warmup, as often as it says. `folder` is the model's.

    Raises:
        ModelError: an input cannot be made, an answer is an error, or none comes in time.
    """
    for warmup in served.config.warmups:
        where = f"{served.config.file}: model_warmup {warmup.name!r}"
        try:
            inputs = {name: _input(warmup, own, folder) for name, own in warmup.inputs.items()}
        except (EdgertError, ValueError, OSError) as error:
            raise ModelError(f"{where}: {error}") from error
        for _ in range(max(warmup.count, 1)):
            _run(served, inputs, lanes, where)


def _run(served: ServedVersion, inputs: dict[str, Array], lanes: int, where: str) -> None:
    answers: SimpleQueue[InferResponse] = SimpleQueue()
    for _ in range(lanes):
        served.infer(InferRequest(model=served.name, inputs=inputs, responder=_Collector(answers)))
    for _ in range(lanes):
        try:
            response = answers.get(timeout=TIMEOUT_S)
        except Empty:
            raise ModelError(f"{where}: no answer in {TIMEOUT_S:.0f} s") from None
        if response.error is not None:
            raise ModelError(f"{where}: {response.error}") from response.error


class _Collector:
    """A Responder that keeps final responses."""

    def __init__(self, answers: SimpleQueue[InferResponse]) -> None:
        self._answers = answers

    def respond(self, response: InferResponse) -> None:
        """Keep the response; its arrays are not looked at."""
        if response.is_final:
            self._answers.put(response)


def _input(warmup: Warmup, own: WarmupInput, folder: Path) -> Array:
    shape = ((warmup.batch_size,) if warmup.batch_size else ()) + own.dims
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
