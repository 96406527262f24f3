"""Inputs of a batch on a device: arrays are staged, what is on the device already is copied there."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.device.handed import HandedPool, HandedTensor
from edgert.execute.engine import DeviceTensor
from edgert.inference.fill import (
    DeviceRequestFiller,
    EngineShapes,
    HostRequestFiller,
    Part,
    PythonRequestFiller,
    _joined,
)
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.stats import CopyCounts
from tests.fakes.device_engine import array_at
from tests.fakes.noted_device import open_noted

WIDTH = 2
ROW_BYTES = 4 * WIDTH


class Buffers:
    """A buffer set with one input on the device, for up to 8 rows."""

    index = 0

    def __init__(self, device):
        self.stream = device.driver.open_stream()
        self._memory = device.driver.allocate(8 * ROW_BYTES)

    def inputs(self, shapes):
        self._rows = shapes["X"][0]
        return {"X": DeviceTensor(self._memory.address, (8, *shapes["X"][1:]), "float32")}

    def array(self):
        """Return the rows that were filled."""
        return array_at(self._memory.address, (self._rows, WIDTH)).copy()

    def close(self):
        self.stream.close()
        self._memory.free()


class Rig:
    """A filler on one device, and tensors on it and on another."""

    def __init__(self):
        self.device, self._other = open_noted(), open_noted()
        self._pools = [HandedPool(self.device, 1 << 20), HandedPool(self._other, 1 << 20)]
        self.buffers = Buffers(self.device)
        config = ModelConfig(
            max_batch_size=8, inputs=(TensorConfig(name="X", dtype="float32", dims=(WIDTH,)),)
        )
        self.shapes = EngineShapes(config)
        self.filler = DeviceRequestFiller(self.shapes, self.device, "m")
        self._tensors = []

    def handed(self, *values, rows=1, elsewhere=False, dtype=np.float32):
        """Return neighbours on a device, one for each value."""
        pool = self._pools[elsewhere]
        loan = pool.take(len(values) * rows * ROW_BYTES)
        made = []
        for index, value in enumerate(values):
            own = HandedTensor(loan, index * rows * ROW_BYTES, (rows, WIDTH), np.dtype(dtype))
            array_at(own.address, (rows, WIDTH))[:] = value
            made.append(own)
        pool.let_go(loan)
        self._tensors += made
        return made

    def fill(self, *inputs):
        """Fill a batch; return its rows' first values."""
        self.filler.fill([Part({"X": given}, given.shape[0]) for given in inputs], self.buffers)
        return self.buffers.array()[:, 0].tolist()

    @property
    def copied(self):
        """Bytes by kind of copy, as rows."""
        return {kind: size // ROW_BYTES for kind, size in self.device.copies.bytes.snapshot().items()}

    def close(self):
        for tensor in self._tensors:
            tensor.release()
        self.filler.close()
        self.buffers.close()
        assert self.device.driver.budget.used_bytes == self._other.driver.budget.used_bytes == 0


@pytest.fixture
def rig():
    rig = Rig()
    with rig.device.driver.current():
        yield rig
        rig.close()


def array(value, rows=1):
    return np.full((rows, WIDTH), value, np.float32)


def test_arrays_are_staged_and_copied_at_once(rig):
    assert rig.fill(array(1), array(2, rows=2)) == [1, 2, 2]
    assert rig.copied == {"host_to_host": 3, "host_to_device": 3}
    assert rig.device.driver.verbs() == ["copy"]


def test_neighbours_on_the_device_are_one_copy_and_nothing_is_staged(rig):
    assert rig.fill(*rig.handed(1, 2, 3, rows=2)) == [1, 1, 2, 2, 3, 3]
    assert rig.copied == {"device_to_device": 6}
    assert rig.device.driver.verbs() == ["copy"]


def test_tensors_that_are_no_neighbours_are_copied_each_to_its_place(rig):
    one, two, three = rig.handed(1, 2, 3)
    [four] = rig.handed(4)
    assert rig.fill(three, one, two, four) == [3, 1, 2, 4]
    assert len(rig.device.driver.verbs()) == 3


def test_no_copy_reaches_into_another_allocation_even_right_behind(rig):
    [one], [two] = rig.handed(1), rig.handed(2)
    two._loan.buffer.address = one.address + one.nbytes  # as small allocations of CUDA lie
    copies = list(_joined([Part({"X": tensor}, 1) for tensor in (one, two)], "X", 0))
    assert copies == [
        ("device_to_device", 0, one.address, ROW_BYTES),
        ("device_to_device", ROW_BYTES, two.address, ROW_BYTES),
    ]


def test_arrays_between_tensors_of_the_device_go_to_their_own_rows(rig):
    one, two = rig.handed(1, 2)
    assert rig.fill(array(7, rows=2), one, array(8), array(9), two) == [7, 7, 1, 8, 9, 2]
    assert rig.copied == {"host_to_host": 4, "host_to_device": 4, "device_to_device": 2}
    assert len(rig.device.driver.verbs()) == 4


def test_a_tensor_of_another_device_goes_through_the_host(rig):
    [there], [here] = rig.handed(5, elsewhere=True), rig.handed(6)
    with there.pool.device.driver.current():
        assert rig.fill(there, here) == [5, 6]
    assert rig.copied == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 1}
    assert there.pool.device.copies.copies.snapshot() == {"device_to_host": 1}


def test_a_tensor_of_another_type_is_refused_as_an_array_is(rig):
    [other] = rig.handed(5, dtype=np.int32)
    with pytest.raises(TypeError, match="Cannot cast"):
        rig.fill(other)


def test_a_lane_of_the_host_gets_the_values(rig):
    class HostBuffers:
        stream = None

        def inputs(self, shapes):
            self.tensor = np.empty(shapes["X"], np.float32)
            return {"X": self.tensor}

    buffers, copies = HostBuffers(), CopyCounts()
    [one] = rig.handed(3)
    HostRequestFiller(rig.shapes, copies).fill([Part({"X": one}, 1), Part({"X": array(4)}, 1)], buffers)
    assert buffers.tensor[:, 0].tolist() == [3, 4]


def test_a_model_in_python_gets_arrays(rig, monkeypatch):
    class PythonBuffers:
        on_part = None

        def take(self, asked):
            self.inputs = [one.inputs["X"] for one in asked]
            return 0

    monkeypatch.setattr("edgert.inference.fill.PythonBufferSet", PythonBuffers)
    buffers = PythonBuffers()
    PythonRequestFiller(CopyCounts()).fill([Part({"X": rig.handed(3)[0]}, 1)], buffers)
    assert type(buffers.inputs[0]) is np.ndarray
    assert buffers.inputs[0].tolist() == [[3, 3]]


def test_the_keeper_hears_of_a_batch_once_its_inputs_are_bound(rig):
    class Keeper:
        def keep(self, parts, buffers):
            self.kept = [part.rows for part in parts], buffers.array()[:, 0].tolist()

    keeper = Keeper()
    filler = DeviceRequestFiller(rig.shapes, rig.device, "m", keeper)
    filler.fill([Part({"X": array(1)}, 1), Part({"X": array(2)}, 1)], rig.buffers)
    filler.close()
    assert keeper.kept == ([1, 1], [1, 2])
