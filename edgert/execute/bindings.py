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
Copy = tuple[int, int, int]  # to, from, bytes
Fetched = frozenset[str] | None  # outputs that are brought to the host; None: all

NOTHING: Fetched = frozenset()
ALIGNMENT = 256  # of every tensor, as TensorRT wants it


class Binding:
    """The tensors of one batch at given shapes."""

    __slots__ = ("_fetches", "_spans", "context", "inputs", "left", "outputs", "shapes", "tensors")

    def __init__(
        self,
        shapes: Shapes,
        context: Any,
        inputs: Mapping[str, DeviceTensor],
        tensors: Mapping[str, int],
        outputs: Mapping[str, Array],
        left: Mapping[str, DeviceTensor],
        spans: Mapping[str, Copy],
    ) -> None:
        self.shapes = shapes  # of the inputs, in the engine's order
        self.context = context  # the execution context that runs these shapes
        self.inputs = inputs
        self.tensors = tensors  # address of every tensor, for the engine
        self.outputs = outputs  # the host's views
        self.left = left  # the outputs where the engine leaves them
        self._spans = (
            spans  # copies that bring the outputs to the host, in order of memory; none: it sees them
        )
        self._fetches: dict[Fetched, tuple[Copy, ...]] = {}

    def fetches(self, fetched: Fetched = None) -> tuple[Copy, ...]:
        """Return the copies that bring outputs to the host: one for those that stand side by side."""
        known = self._fetches.get(fetched)
        if known is None:
            known = self._fetches[fetched] = tuple(self._joined(fetched))
        return known

    def fetch_bytes(self, fetched: Fetched = None) -> int:
        """Return the bytes of these copies."""
        return sum(size_bytes for _, _, size_bytes in self.fetches(fetched))

    def fetch(self, stream: Stream, fetched: Fetched = None) -> None:
        """Enqueue these copies."""
        for destination, source, size_bytes in self.fetches(fetched):
            stream.copy(destination, source, size_bytes)

    def _joined(self, fetched: Fetched) -> list[Copy]:
        joined: list[Copy] = []
        is_next = False  # the last output is the end of the last copy
        for name, (destination, source, size_bytes) in self._spans.items():
            if fetched is not None and name not in fetched:
                is_next = False
            elif is_next:
                begin, begin_source, _ = joined[-1]
                joined[-1] = begin, begin_source, destination + size_bytes - begin
            elif size_bytes:
                joined.append((destination, source, size_bytes))
                is_next = True
        return joined


class BindingCache:
    """The bindings of one buffer set, and their graphs; of both, the least recently used go."""

    def __init__(self, memory: TensorMemory, max_graphs: int) -> None:
        self.memory = memory
        self.keeps_graphs = max_graphs > 0
        self._limit = max_graphs or 16
        self._bindings: OrderedDict[Shapes, Binding] = OrderedDict()
        self._graphs: OrderedDict[tuple[Shapes, Fetched], Graph] = OrderedDict()
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
            oldest, _ = self._bindings.popitem(last=False)
            for key in [key for key in self._graphs if key[0] == oldest]:
                self._drop(key)
        binding = self._bindings[shapes] = self.memory.bind(shapes, output_shapes, context)
        return binding

    def graph(self, shapes: Shapes, fetched: Fetched) -> Graph | None:
        """Return the graph that runs these shapes and fetches these outputs, if there is one."""
        graph = self._graphs.get((shapes, fetched))
        if graph is not None:
            self._graphs.move_to_end((shapes, fetched))
        return graph

    def keep(self, shapes: Shapes, fetched: Fetched, graph: Graph) -> None:
        """Keep a graph that was captured; no other of this set may be running."""
        if len(self._graphs) >= self._limit:
            self._drop(next(iter(self._graphs)))
        self._graphs[shapes, fetched] = graph

    def drop_graphs(self) -> None:
        """Free every graph. None may be running."""
        while self._graphs:
            self._graphs.popitem()[1].close()

    def close(self) -> None:
        """Free graphs and memory."""
        self.drop_graphs()
        self._bindings.clear()
        self.memory.close()

    def _drop(self, key: tuple[Shapes, Fetched]) -> None:
        self._graphs.pop(key).close()
        self.dropped += 1


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
        left: dict[str, DeviceTensor] = {}
        spans: dict[str, Copy] = {}
        offset = 0
        for spec in self._info.outputs:
            shape = output_shapes[spec.name]
            size, place = _bytes(spec, shape), self._outputs.address + offset
            tensors[spec.name] = place
            left[spec.name] = DeviceTensor(place, shape, spec.dtype)
            views[spec.name] = self._host.view_u8[offset : offset + size].view(spec.dtype).reshape(shape)
            spans[spec.name] = self._host.address + offset, place, size
            offset += _aligned(size)
        return Binding(shapes, context, inputs, tensors, views, left, spans if self.is_staged else {})

    def close(self) -> None:
        """Free the buffers. Allowed again."""
        while self._buffers:
            self._buffers.pop().free()

    @property
    def is_staged(self) -> bool:
        """Outputs reach the host by a copy."""
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
