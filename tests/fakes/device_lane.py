"""Lanes of a device whose driver is the host: real lane, runner, scratch and buffers; a fake engine."""

from __future__ import annotations

import ctypes
from math import prod

import numpy as np

from edgert.device.opened import open_device
from edgert.execute.device_lane import open_device_lane
from edgert.execute.engine import EngineInfo, LaneOptions
from edgert.execute.runner import Runner, batch_sizes
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.engine_context import FakeContext

INFO = EngineInfo(
    "fake", (TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 4)),), batches=True
)


def open_lane(
    on_done=lambda: None, *, contexts=None, device=None, group="", graphs=8, max_batch=8, timed=False
):
    """Return a lane and its device."""
    device = device or open_device("host")
    contexts = contexts or [FakeContext()]
    runner = Runner(contexts, INFO, device.scratch.of(group, "fake"), batch_sizes(max_batch), "model fake")
    options = LaneOptions(graphs=graphs, scratch_group=group, is_timed=timed)
    return open_device_lane(runner, INFO, device, options, on_done, "model fake")


class HostFacing:
    """A device lane whose fills see arrays, as those of a host lane do: its memory is the host's."""

    def __init__(self, lane):
        self._lane = lane

    def __getattr__(self, name):
        return getattr(self._lane, name)

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        self._lane.submit(buffers, lambda own: fill(_Arrays(own)), tag, on_read)


class _Arrays:
    def __init__(self, buffers):
        self._buffers = buffers

    def inputs(self, shapes):
        tensors = self._buffers.inputs(shapes)
        return {name: as_array(tensor)[: shapes[name][0]] for name, tensor in tensors.items()}


def as_array(tensor):
    """Return the host's view of a tensor in the host's memory."""
    memory = (ctypes.c_float * prod(tensor.shape)).from_address(tensor.address)
    return np.frombuffer(memory, np.float32).reshape(tensor.shape)


def fill_with(value, count=2):
    """Return a fill that writes `value` into `count` places."""

    def fill(buffers):
        as_array(buffers.inputs({"x": (count, 4)})["x"])[:count] = value

    return fill
