"""One buffer set's tensors on a device: where each lies for a batch of given shapes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from edgert.device.driver import Driver, Graph, Stream
from edgert.device.memory import Buffer, MemoryKind
from edgert.device.placement import MemoryPlan
from edgert.execute.engine import DeviceTensor, EngineInfo
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

ALIGNMENT = 256  # of every tensor, as TensorRT wants it


class Binding:
    """The tensors of one batch at given shapes, and the graph that was captured for them."""

    __slots__ = ("context", "fetch_bytes", "fetches", "graph", "inputs", "outputs", "shapes", "tensors")

    def __init__(
        self,
        shapes: Shapes,
        context: Any,
        inputs: Mapping[str, DeviceTensor],
        tensors: Mapping[str, int],
        outputs: Mapping[str, Array],
        fetches: tuple[tuple[int, int, int], ...],
    ) -> None:
        self.shapes = shapes  # of the inputs, in the engine's order
        self.context = context  # the execution context that runs these shapes
        self.inputs = inputs
        self.tensors = tensors  # address of every tensor, for the engine
        self.outputs = outputs  # the host's views
        self.fetches = fetches  # copies that bring the outputs to the host: to, from, bytes
        self.fetch_bytes = sum(size_bytes for _, _, size_bytes in fetches)
        self.graph: Graph | None = None

    def fetch(self, stream: Stream) -> None:
        """Enqueue the copies of the outputs."""
        for destination, source, size_bytes in self.fetches:
            stream.copy(destination, source, size_bytes)

    def drop_graph(self) -> bool:
        """Free the graph, which must not be running; False if there is none."""
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.close()
        return graph is not None


class BindingCache:
    """The bindings of one buffer set, the least recently used of which go."""

    def __init__(self, memory: TensorMemory, max_graphs: int) -> None:
        self.memory = memory
        self.keeps_graphs = max_graphs > 0
        self._limit = max_graphs or 16
        self._bindings: OrderedDict[Shapes, Binding] = OrderedDict()
        self.dropped = 0  # graphs that made room for others

    def find(self, shapes: Shapes) -> Binding | None:
        """Return the binding for these shapes, if it was used lately."""
        binding = self._bindings.get(shapes)
        if binding is not None:
            self._bindings.move_to_end(shapes)
        return binding

    def add(self, shapes: Shapes, output_shapes: Mapping[str, Shape], context: Any) -> Binding:
        """Return a new binding. The set must not be running."""
        if len(self._bindings) >= self._limit:
            _, oldest = self._bindings.popitem(last=False)
            self.dropped += oldest.drop_graph()
        binding = self._bindings[shapes] = self.memory.bind(shapes, output_shapes, context)
        return binding

    def drop_graphs(self) -> None:
        """Free every graph. None may be running."""
        for binding in self._bindings.values():
            binding.drop_graph()

    def close(self) -> None:
        """Free graphs and memory."""
        self.drop_graphs()
        self._bindings.clear()
        self.memory.close()


class TensorMemory:
    """The buffers of one buffer set: one for all inputs, one or two for all outputs. Never reallocated."""

    def __init__(
        self, driver: Driver, memory: MemoryPlan, info: EngineInfo, largest: Mapping[str, Shape], owner: str
    ) -> None:
        """Take the largest shape of every tensor. Raises OutOfDeviceMemoryError."""
        self._info = info
        self._buffers: list[Buffer] = []
        input_bytes = _packed_bytes(info.inputs, largest)
        output_bytes = _packed_bytes(info.outputs, largest)
        try:
            self._inputs = self._allocate(driver, input_bytes, MemoryKind.DEVICE, owner)
            self._host = self._allocate(driver, output_bytes, memory.outputs, owner)
            self._outputs = self._host
            if memory.outputs_are_staged:
                self._outputs = self._allocate(driver, output_bytes, MemoryKind.DEVICE, owner)
        except BaseException:
            self.close()
            raise

    def bind(self, shapes: Shapes, output_shapes: Mapping[str, Shape], context: Any) -> Binding:
        """Return where the tensors of a batch lie; outputs stand one behind the other."""
        inputs: dict[str, DeviceTensor] = {}
        tensors: dict[str, int] = {}
        offset = 0
        for spec, shape in zip(self._info.inputs, shapes, strict=True):
            inputs[spec.name] = DeviceTensor(self._inputs.address + offset, shape, spec.dtype)
            tensors[spec.name] = self._inputs.address + offset
            offset += _aligned(_bytes(spec, shape))
        views: dict[str, Array] = {}
        offset = end = 0
        for spec in self._info.outputs:
            shape = output_shapes[spec.name]
            size = _bytes(spec, shape)
            tensors[spec.name] = self._outputs.address + offset
            views[spec.name] = self._host.view_u8[offset : offset + size].view(spec.dtype).reshape(shape)
            end, offset = offset + size, offset + _aligned(size)
        fetches = ((self._host.address, self._outputs.address, end),) if self._is_staged else ()
        return Binding(shapes, context, inputs, tensors, views, fetches)

    def close(self) -> None:
        """Free the buffers. Allowed again."""
        while self._buffers:
            self._buffers.pop().free()

    @property
    def _is_staged(self) -> bool:
        return self._outputs is not self._host

    def _allocate(self, driver: Driver, size_bytes: int, kind: MemoryKind, owner: str) -> Buffer:
        buffer = driver.allocate(max(size_bytes, ALIGNMENT), kind, owner)
        self._buffers.append(buffer)
        return buffer


def _packed_bytes(specs: tuple[TensorSpec, ...], shapes: Mapping[str, Shape]) -> int:
    return sum(_aligned(_bytes(spec, shapes[spec.name])) for spec in specs)


def _bytes(spec: TensorSpec, shape: Shape) -> int:
    return prod(shape) * np.dtype(spec.dtype).itemsize


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
