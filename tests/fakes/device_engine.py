"""Engines whose models are functions of arrays, on real device lanes of a device whose memory is the host's.

A stream that captures does nothing until its graph is launched, as on CUDA.
"""

from __future__ import annotations

import ctypes
from functools import partial
from math import prod

import numpy as np

from edgert.device.scratch import ScratchGroups
from edgert.execute.device_lane import open_device_lane
from edgert.execute.engine import DEFAULT_LANE, EngineDetails, EngineInfo
from edgert.execute.runner import Runner, batch_sizes
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.noted_device import NotedDriver, NotedGraph, NotedStream


class ReplayDriver(NotedDriver):
    """A NotedDriver whose graphs do, when they are launched, what was captured."""

    def __init__(self, budget=None, **options):
        super().__init__(budget, has_graphs=True, **options)

    def open_stream(self, priority=0):
        return ReplayStream(self)


class ReplayStream(NotedStream):
    def __init__(self, driver):
        super().__init__(driver)
        self._captured = None

    def do(self, work):
        """Do something now, or when the graph is launched that is captured."""
        if self._captured is None:
            work()
        else:
            self._captured.append(work)

    def copy(self, destination, source, size_bytes):
        self.do(partial(super().copy, destination, source, size_bytes))

    def begin_capture(self):
        super().begin_capture()
        self._captured = []

    def end_capture(self):
        graph = super().end_capture()
        graph.work, self._captured = self._captured, None
        return graph

    def launch(self, graph):
        assert isinstance(graph, NotedGraph)
        super().launch(graph)
        for work in graph.work:
            work()


class DeviceEngine:
    """An Engine that computes `function`, which gets arrays by name and returns arrays by name.

    `inputs` and `outputs` are {name: item shape}, all float32. `fails` is raised by runs, once each.
    """

    is_driven = True

    def __init__(self, device, function, inputs, outputs, *, batches=True):
        axis = (-1,) * batches
        self.info = EngineInfo(
            "tensorrt_rtx",
            tuple(TensorSpec(name, "float32", axis + item) for name, item in inputs.items()),
            tuple(TensorSpec(name, "float32", axis + item) for name, item in outputs.items()),
            batches=batches,
        )
        self.function = function
        self.fails = []
        self.lanes = []
        self.is_closed = False
        self._device = device
        self._scratch = ScratchGroups(device.driver)

    def open_lane(self, max_batch, on_done, options=DEFAULT_LANE):
        context = _Context(self, max_batch)
        scratch = self._scratch.of("", "model fake")
        runner = Runner([context], self.info, scratch, batch_sizes(max_batch), "model fake")
        lane = open_device_lane(runner, self.info, self._device, options, on_done, "model fake")
        self.lanes.append(lane)
        return lane

    def warmed(self):
        pass

    def details(self):
        return EngineDetails()

    def close(self):
        self.is_closed = True


class _Context:
    def __init__(self, engine, max_batch):
        self._engine = engine
        self._info = engine.info
        self._max_batch = max_batch
        self._shapes = {}

    def covers(self, shapes):
        return all(map(_fits, (spec.shape for spec in self._info.inputs), shapes))

    def largest(self):
        return {
            spec.name: self._at(spec, self._max_batch) for spec in (*self._info.inputs, *self._info.outputs)
        }

    def scratch_bytes(self, sizes):
        return 100

    def set_scratch(self, address, size_bytes):
        pass

    def set_shapes(self, shapes):
        size = shapes[0][0] if self._info.batches else 1
        outputs = {spec.name: self._at(spec, size) for spec in self._info.outputs}
        inputs = {spec.name: shape for spec, shape in zip(self._info.inputs, shapes, strict=True)}
        self._shapes = {**inputs, **outputs}
        return outputs

    def enqueue(self, tensors, stream):
        arrays = {name: array_at(address, self._shapes[name]) for name, address in tensors.items()}
        stream.do(partial(self._run, arrays))

    def close(self):
        pass

    def _run(self, arrays):
        if self._engine.fails:
            raise self._engine.fails.pop(0)
        made = self._engine.function({spec.name: arrays[spec.name] for spec in self._info.inputs})
        for spec in self._info.outputs:
            arrays[spec.name][...] = made[spec.name]

    @staticmethod
    def _at(spec, size):
        return tuple(size if side == -1 else side for side in spec.shape)


def _fits(dims, shape):
    return len(dims) == len(shape) and all(map(lambda own, side: own in (-1, side), dims, shape))


def array_at(address, shape):
    """Return the host's view of float32 memory of the fake device."""
    memory = (ctypes.c_float * prod(shape)).from_address(address)
    return np.frombuffer(memory, np.float32).reshape(shape)
