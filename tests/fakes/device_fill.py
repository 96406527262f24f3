"""What a DeviceFiller works with: a preparer that copies pixels as they are, and an input on the host."""

from __future__ import annotations

import ctypes
from math import prod
from typing import NamedTuple

import numpy as np

from edgert.execute.engine import DeviceTensor
from edgert.frames.frame import image_bytes, image_shape
from edgert.frames.placement import Placement


class Placed(NamedTuple):
    """One frame that was to be placed."""

    source_address: int
    pixel_format: str
    height: int
    width: int
    item_address: int
    stream: object


class FakeDevicePreparer:
    """A DevicePreparer whose tensor has a picture's own bytes; an open side is the picture's.

    `failures` are raised for the frames with these numbers, counted from 0 over all that were placed.
    """

    def __init__(self, item=(-1, -1, 3)):
        self.item = item
        self.placed = []
        self.failures = {}

    def shape_for(self, pixel_format, height, width):
        sides = (height, width, 3)
        return tuple(side if own < 0 else own for own, side in zip(self.item, sides, strict=True))

    def place(self, source_address, pixel_format, height, width, item_address, stream):
        size_bytes = image_bytes(image_shape(pixel_format, height, width))
        number = len(self.placed)
        self.placed.append(Placed(source_address, pixel_format, height, width, item_address, stream))
        if number in self.failures:
            raise self.failures[number]
        stream.copy(item_address, source_address, size_bytes)
        return Placement.stretch(width, height, width, height)


class FakeDeviceBuffers:
    """A BufferSet with one input, which is for `runs_at` pictures if fewer are asked for."""

    index = 0

    def __init__(self, driver, stream, dtype="uint8", *, runs_at=0):
        self.stream = stream
        self.asked = []  # shapes by name, for each call
        self._driver = driver
        self._dtype = dtype
        self._runs_at = runs_at
        self._buffer = None

    def inputs(self, shapes):
        self.asked.append(dict(shapes))
        [(name, shape)] = shapes.items()
        if self._runs_at:
            shape = (max(self._runs_at, shape[0]), *shape[1:])
        self.close()
        self._buffer = self._driver.allocate(prod(shape) * np.dtype(self._dtype).itemsize)
        self._buffer.array_u8[:] = 0xEE
        self.tensor = DeviceTensor(self._buffer.address, shape, self._dtype)
        return {name: self.tensor}

    def outputs(self):
        return {}

    def array(self):
        """Return what lies in the input."""
        memory = (ctypes.c_uint8 * self._buffer.size_bytes).from_address(self.tensor.address)
        return np.frombuffer(memory, self._dtype).reshape(self.tensor.shape)

    def close(self):
        if self._buffer is not None:
            self._buffer.free()
            self._buffer = None
