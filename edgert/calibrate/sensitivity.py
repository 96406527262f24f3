"""How much of the outputs' error each layer brings when it alone is quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.frames.result import Array

Outputs = Mapping[str, Array]


class Sensitivity:
    """Measures layers one after another on a few frames, whose reference outputs it holds."""

    def __init__(self, name: Path, reference: onnx.ModelProto, tensors: Sequence[Array]) -> None:
        """`tensors` are prepared frames. Raises ModelError."""
        self._name = name
        self._tensors = tensors
        self._expected = self._run(reference)

    def error_of(self, candidate: onnx.ModelProto) -> float:
        """Return the outputs' squared error by the reference's square, the mean over frames and outputs."""
        errors = [
            _relative_error(expected[name], actual[name])
            for expected, actual in zip(self._expected, self._run(candidate), strict=True)
            for name in expected
        ]
        return float(np.mean(errors)) if errors else 0.0

    def _run(self, proto: onnx.ModelProto) -> list[Outputs]:
        with open_host_model(self._name, proto) as model:
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
    for layer in placement.layers:
        if layer not in known:
            alone = quantizer.quantize(placement.only(layer), amax)
            known[layer] = sensitivity.error_of(alone)
        on_layer()


def _relative_error(expected: Array, actual: Array) -> float:
    old, new = expected.astype(np.float64), actual.astype(np.float64)
    signal = float((old**2).sum())
    noise = float(((old - new) ** 2).sum())
    return noise / signal if signal else float(noise > 0)
