"""Runs the FP32 model on frames and counts how large each tensor's values are, in bounded memory.

Tensors are marked as outputs, as many at once as fit in `CHUNK_BYTES`; of no tensor more than two frames'
values are held: while one is counted the next is computed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from itertools import islice

import msgspec
import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgert.calibrate.ahead import ahead
from edgert.calibrate.compare.host_models import HostModel, open_host_model
from edgert.calibrate.observe.histogram import Histogram, HistogramState
from edgert.calibrate.quantize.float_model import FloatModel
from edgert.errors import ModelError
from edgert.execute.engine import EngineInfo
from edgert.frames.result import Array

CHUNK_BYTES = 128 << 20  # of tensors that are marked at once; the engine holds each two or three times
UNKNOWN_BYTES = 16 << 20  # what a tensor of unknown shape is taken for
CHECKPOINT_FRAMES = 50

_Look = tuple[str, dict[str, Array]]  # a frame's name, and the values of tensors
Frame = tuple[str, Array]  # its name for errors, and the prepared tensor without a batch axis


class ObservationState(msgspec.Struct, frozen=True):
    """An observation as a file holds it."""

    histograms: dict[str, HistogramState]
    sums: dict[str, list[float]]  # of each channel's means; empty where the channels change in number
    summed: dict[str, int]  # frames in `sums`: those in which the tensor held values
    frames: dict[str, int]  # that each tensor was seen in


class Observation:
    """What was seen of tensors so far."""

    def __init__(self, state: ObservationState | None = None) -> None:
        state = state or ObservationState({}, {}, {}, {})
        self._histograms = {name: Histogram.from_state(each) for name, each in state.histograms.items()}
        self._sums = {name: np.array(sums) for name, sums in state.sums.items()}
        self._summed = dict(state.summed)
        self._frames = dict(state.frames)

    @property
    def histograms(self) -> dict[str, Histogram]:
        """By tensor."""
        return self._histograms

    def frames_of(self, tensor: str) -> int:
        """Return how many frames a tensor was seen in."""
        return self._frames.get(tensor, 0)

    def channel_means(self) -> dict[str, Array]:
        """Return (channels,) FP32 means of each tensor that has channels, on its axis 1."""
        means = {name: sums / self._summed[name] for name, sums in self._sums.items() if sums.size}
        return {name: mean.astype(np.float32) for name, mean in means.items()}

    def expect(self, tensors: Iterable[str]) -> None:
        """Make room for tensors, in this order."""
        for tensor in tensors:
            self._histograms.setdefault(tensor, Histogram())

    def add(self, tensor: str, values: Array, frame: str) -> None:
        """Count one frame's values; one thread for each tensor. Raises ModelError if some are not finite."""
        histogram = self._histograms.setdefault(tensor, Histogram())
        histogram.add(values)
        if histogram.not_finite:
            raise ModelError(
                f"Tensor {tensor!r} holds {histogram.not_finite} values that are NaN or Inf, frame {frame}. "
                "Such a model cannot be quantized; mend the model, or what [prepare] makes of pictures."
            )
        if values.ndim >= 2 and values.size:
            self._add_means(tensor, values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64))
        self._frames[tensor] = self.frames_of(tensor) + 1

    def state(self) -> ObservationState:
        """Return a copy for a file."""
        return ObservationState(
            histograms={name: histogram.state() for name, histogram in self._histograms.items()},
            sums={name: sums.tolist() for name, sums in self._sums.items()},
            summed=dict(self._summed),
            frames=dict(self._frames),
        )

    def _add_means(self, tensor: str, means: Array) -> None:
        known = self._sums.get(tensor, np.zeros(means.shape))
        self._sums[tensor] = known + means if known.shape == means.shape else np.empty(0)
        self._summed[tensor] = self._summed.get(tensor, 0) + 1


class Observer:
    """Observes tensors of one model."""

    def __init__(self, model: FloatModel, info: EngineInfo, tensors: Sequence[str]) -> None:
        """`info` is the whole model's."""
        self._model = model
        self._info = info
        self._proto = _for_one_picture(model, info)
        self.chunks = list(_grouped(tensors, _sizes(self._proto)))

    def observe(
        self,
        observation: Observation,
        frames: Callable[[], Iterable[Frame]],
        on_frame: Callable[[], None],
        checkpoint: Callable[[], None],
    ) -> None:
        """Go on with an observation until all tensors were seen in all `frames`, which are read once a chunk.

        `checkpoint` is called now and then where the observation is complete up to a frame.

        Raises:
            ModelError: the model cannot be run, or gives values that are not finite.
        """
        for chunk in self.chunks:
            done = min(map(observation.frames_of, chunk))
            with ExitStack() as undo:
                model = undo.enter_context(self._opened(chunk))
                workers = undo.enter_context(ThreadPoolExecutor(os.cpu_count(), "count"))
                looks = undo.enter_context(ahead(self._looks(model, islice(frames(), done, None))))
                for count, look in enumerate(looks, done + 1):
                    missing = [tensor for tensor in chunk if observation.frames_of(tensor) < count]
                    _count(observation, missing, look, workers)
                    on_frame()
                    if count % CHECKPOINT_FRAMES == 0:
                        checkpoint()
            checkpoint()

    def _looks(self, model: HostModel, frames: Iterable[Frame]) -> Iterator[_Look]:
        """Yield each frame's name and its tensors' values."""
        for name, tensor in frames:
            batch = model.batch_of(tensor)
            yield name, {self._model.input_name: batch, **model.run_whole(batch)}

    def _opened(self, chunk: Sequence[str]) -> AbstractContextManager[HostModel]:
        graph = gs.import_onnx(self._proto)
        tensors = graph.tensors()
        marked = [tensors[name] for name in chunk if name != self._model.input_name]
        for tensor in marked:
            tensor.dtype = np.float32
        graph.outputs = marked or graph.outputs
        proto = gs.export_onnx(graph.cleanup())
        proto.ir_version = self._proto.ir_version
        return open_host_model(self._model.file.path, proto, self._info)


def _count(observation: Observation, tensors: Sequence[str], look: _Look, workers: Executor) -> None:
    name, values = look
    observation.expect(tensors)
    for _ in workers.map(lambda each: observation.add(each, values[each], name), tensors):
        pass  # raises what `add` raised, in the tensors' order


def _for_one_picture(model: FloatModel, info: EngineInfo) -> onnx.ModelProto:
    """Return the model without a variable batch axis, and with the shapes that follow from that.

    Where it is variable, an engine takes the first axis of every tensor for it; within a graph some are not.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    if not info.batches:
        return proto
    [value] = (value for value in proto.graph.input if value.name == model.input_name)
    value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(proto)


def _sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the bytes of each FP32 tensor whose shape is known."""
    sizes = {}
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        tensor = value.type.tensor_type
        sides = [dimension.dim_value for dimension in tensor.shape.dim]
        if tensor.HasField("shape") and all(sides):
            sizes[value.name] = 4 * math.prod(sides)
    return sizes


def _grouped(tensors: Sequence[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for tensor in tensors:
        size = sizes.get(tensor, UNKNOWN_BYTES)
        if group and total + size > CHUNK_BYTES:
            yield group
            group, total = [], 0
        group.append(tensor)
        total += size
    if group:
        yield group
