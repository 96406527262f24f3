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
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.frames.result import Array

Outputs = Mapping[str, Array]

AT_ONCE = 2  # models: while one is opened, which one core does, another runs


class Sensitivity:
    """Measures models on a few frames, whose reference outputs it holds. On any number of threads at once."""

    def __init__(self, name: Path, reference: onnx.ModelProto, tensors: Sequence[Array]) -> None:
        """`tensors` are prepared frames. Raises ModelError."""
        self._name = name
        self._tensors = tensors
        self._expected = self._run(reference)

    def error_of(self, candidate: onnx.ModelProto) -> float:
        """Return the outputs' error, the mean over frames and outputs; see `weighted_error`.

        An output of another shape counts 1, one with NaN or Inf that the reference has not is infinite.
        """
        errors = [
            weighted_error(expected[name], actual[name])
            for expected, actual in zip(self._expected, self._run(candidate), strict=True)
            for name in expected
        ]
        return float(np.mean(errors)) if errors else 0.0

    def _run(self, proto: onnx.ModelProto) -> list[Outputs]:
        threads = max(1, (os.cpu_count() or 1) // AT_ONCE)
        with open_host_model(self._name, proto, threads=threads) as model:
            return [model.run(tensor) for tensor in self._tensors]


def measure_layers(
    sensitivity: Sensitivity,
    quantizer: Quantizer,
    placement: Placement,
    amax: Mapping[str, float],
    known: dict[str, float],
    on_layer: Callable[[], None],
) -> None:
    """Add to `known` the error of each layer of the placement that is not in it yet. Raises ModelError."""

    def error_of(layer: str) -> float:
        return sensitivity.error_of(quantizer.quantize(placement.only(layer), amax, is_checked=False))

    missing = [layer for layer in placement.layers if layer not in known]
    for _layer in range(len(placement.layers) - len(missing)):
        on_layer()
    with _workers() as workers:
        errors = [(layer, workers.submit(error_of, layer)) for layer in missing]
        for layer, error in errors:
            known[layer] = error.result()
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
