"""Hears from TensorRT how long each layer took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgert.execute.tensorrt_bindings import Bindings


def make_profiler(bindings: Bindings, on_layer: Callable[[str, float], None]) -> Any:
    """Return an IProfiler, to be kept while its contexts live. It is called while a batch is enqueued."""
    base = bindings.module.IProfiler

    class Profiler(base):  # type: ignore[misc, valid-type] # whichever module was loaded
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            on_layer(layer_name, ms)

    return Profiler()
