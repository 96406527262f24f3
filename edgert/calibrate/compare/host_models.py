"""Runs models that are not in the store, and not even in files, on the host engine.

Q and DQ nodes are computed as they stand, and what is between them in FP32. onnxruntime's integer kernels
saturate their sums on x86 without VNNI, and a choice of thresholds or a limit must not depend on that. So
times are of this mode too, not those of integer kernels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnx

from edgert.build.subjects import EngineSubject
from edgert.device.opened import open_device
from edgert.execute.engine import EngineInfo
from edgert.execute.onnx_engine import load_onnx_engine
from edgert.frames.result import Array
from edgert.pipeline.model_plan import has_batch_axis


class HostModel:
    """A model that is fed one picture at a time, whatever its batch size."""

    def __init__(self, info: EngineInfo, subject: EngineSubject, like: EngineInfo) -> None:
        """Of `like`, the model that this one was made of, the batch axis is taken."""
        self.info = info
        self._subject = subject
        self._input = like.inputs[0].name
        self._has_batch_axis = has_batch_axis(like)
        self._batch = like.fixed_batch or 1

    def run(self, tensor: Array) -> dict[str, Array]:
        """Return the outputs for one prepared picture, without a batch axis. Raises ModelError."""
        outputs = self.run_whole(self.batch_of(tensor))
        return {name: array[0] for name, array in outputs.items()} if self._has_batch_axis else outputs

    def batch_of(self, tensor: Array) -> Array:
        """Return the model's input for one prepared picture: as often as the batch is large. Not a copy."""
        return np.broadcast_to(tensor, (self._batch, *tensor.shape)) if self._has_batch_axis else tensor

    def run_whole(self, batch: Array) -> dict[str, Array]:
        """Return the outputs for an input of `batch_of` as the model gives them. Raises ModelError."""
        return self._subject.run({self._input: batch})


@contextmanager
def open_host_model(
    name: Path, proto: onnx.ModelProto, like: EngineInfo | None = None, threads: int | None = None
) -> Iterator[HostModel]:
    """Yield a model that runs on so many threads, None: on all cores. Errors call it `name`.

    Raises:
        ModelError: onnxruntime cannot run it.
    """
    with ExitStack() as undo:
        device = open_device("host")
        undo.callback(device.close)
        content = proto.SerializeToString()
        engine = load_onnx_engine(
            name, threads or os.cpu_count() or 1, device.driver.allocate, content, has_integer_kernels=False
        )
        undo.callback(engine.close)
        subject = EngineSubject(engine, device, 1)
        undo.callback(subject.close)
        yield HostModel(engine.info, subject, like or engine.info)
