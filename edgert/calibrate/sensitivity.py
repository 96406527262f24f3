"""How much of the outputs' error each layer brings when it alone is quantized."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.quantize.draft import Fork
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.frames.result import Array

Outputs = Mapping[str, Array]

AT_ONCE = 2  # models: while one is opened, which one core does, another runs
LAYERS_A_MODEL = 16  # measured together: of all before the first of them one computation is enough


class Sensitivity:
    """Measures models on a few frames, whose reference outputs it holds. On any number of threads at once."""

    def __init__(self, name: Path, reference: onnx.ModelProto, tensors: Sequence[Array]) -> None:
        """`tensors` are prepared frames. Raises ModelError."""
        self._name = name
        self._tensors = tensors
        self._expected = list(self._run(reference))

    def errors_of(self, fork: Fork) -> list[float]:
        """Return each candidate's error, the mean over frames and outputs; see `weighted_error`.

        An output of another shape counts 1, one with NaN or Inf that the reference has not is infinite.
        """
        errors: list[list[float]] = [[] for _candidate in fork.outputs]
        for expected, actual in zip(self._expected, self._run(fork.model), strict=True):
            for names, own in zip(fork.outputs, errors, strict=True):
                own += [weighted_error(expected[name], actual[names[name]]) for name in expected]
        return [float(np.mean(own)) if own else 0.0 for own in errors]

    def _run(self, proto: onnx.ModelProto) -> Iterator[Outputs]:
        threads = max(1, (os.cpu_count() or 1) // AT_ONCE)
        with open_host_model(self._name, proto, threads=threads) as model:
            for tensor in self._tensors:
                yield model.run(tensor)


def measure_layers(
    sensitivity: Sensitivity,
    quantizer: Quantizer,
    placement: Placement,
    amax: Mapping[str, float],
    known: dict[str, float],
    on_layer: Callable[[], None],
) -> None:
    """Add to `known` the error of each layer of the placement that is not in it yet. Raises ModelError."""

    def errors_of(layers: Sequence[str]) -> list[float]:
        return sensitivity.errors_of(quantizer.fork([placement.only(layer) for layer in layers], amax))

    starts = range(0, len(placement.layers), LAYERS_A_MODEL)
    groups = [placement.layers[start : start + LAYERS_A_MODEL] for start in starts]
    missing = [group for group in groups if not known.keys() >= set(group)]
    for _layer in range(len(placement.layers) - sum(map(len, missing))):
        on_layer()
    with _workers() as workers:
        found = [(group, workers.submit(errors_of, group)) for group in missing]
        for group, errors in found:
            for layer, error in zip(group, errors.result(), strict=True):
                known.setdefault(layer, error)
                on_layer()


@contextmanager
def _workers() -> Iterator[Executor]:
    """Yield threads that, once something fails or somebody stops it, end with what they are at."""
    workers = ThreadPoolExecutor(AT_ONCE, "measure")
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def weighted_error(expected: Array, actual: Array) -> float:
    """Return the squared difference by the expected square, each value weighted by its magnitude.

    So the few large values that decide an answer count, and not the many small ones of the background.
    """
    if expected.shape != actual.shape:
        return 1.0
    old, new = expected.astype(np.float64), actual.astype(np.float64)
    differs = ~((old == new) | (np.isnan(old) & np.isnan(new)))
    one, other = old[differs], new[differs]
    noise = float((np.square(one - other) * np.maximum(np.abs(one), np.abs(other))).sum())
    signal = float((np.abs(old[np.isfinite(old)]) ** 3).sum())
    if not math.isfinite(noise):
        return math.inf
    return noise / signal if signal else float(noise > 0)
