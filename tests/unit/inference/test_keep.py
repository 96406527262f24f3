"""Which outputs of a batch stay on the device, which are fetched, and who holds what stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.device.handed import HandedPool
from edgert.device.memory import MemoryKind
from edgert.errors import DeviceLostError
from edgert.frames.request import InferRequest, KeptOutputs
from edgert.inference.fill import Part
from edgert.inference.keep import OutputKeeper
from edgert.models.model_config import ModelConfig, TensorConfig
from tests.fakes.device_lane import as_array, open_lane
from tests.fakes.noted_device import NotedDriver, open_noted

WIDTH = 4


def output(dims=(WIDTH,), reshape=None):
    return TensorConfig(name="y", dtype="float32", dims=dims, reshape=reshape)


class Rig:
    """A lane whose output `y` is its input, and the pool of its device."""

    def __init__(self):
        self.device = open_noted(NotedDriver(), outputs=MemoryKind.PINNED, outputs_are_staged=True)
        self.pool = HandedPool(self.device, 1 << 20)
        with self.device.driver.current():
            self.lane = open_lane(device=self.device)

    def part(self, rows=1, *, keeps=True, pool=None, **fields):
        """Return a request's part, which lets `y` stay."""
        kept = KeptOutputs({"y": pool or self.pool}) if keeps else None
        request = InferRequest(model="m", inputs={}, responder=None, kept=kept)
        return Part({}, rows, fields.pop("request", request), **fields)

    def run(self, *parts, of=None, max_batch=8):
        """Run a batch of which each row is its number; return the outputs on the host."""
        keeper = OutputKeeper(ModelConfig(max_batch_size=max_batch, outputs=(of or output(),)), self.pool)
        rows = sum(part.rows for part in parts)

        def fill(buffers):
            numbers = np.arange(rows, dtype=np.float32)[:, None]
            as_array(buffers.inputs({"x": (rows, WIDTH)})["x"])[:rows] = numbers
            keeper.keep(parts, buffers)

        with self.device.driver.current():
            self.lane.submit(self.lane.acquire(), fill, None)
            [completed] = self.lane.poll()
            outputs = {} if completed.error else dict(completed.buffers.outputs())
            self.lane.release(completed.buffers)
        self.error = completed.error
        return outputs

    @staticmethod
    def kept(part):
        """Return the numbers of the rows that stayed for a request, and give them back."""
        tensor = part.request.kept.tensors.pop("y")
        values = tensor.to_array()
        tensor.release()
        return values[..., 0].tolist()

    def close(self):
        with self.device.driver.current():
            self.lane.close()
        assert self.device.driver.budget.used_bytes == self.pool.held_bytes == 0


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def test_each_request_gets_its_own_rows_and_nothing_is_fetched(rig):
    parts = [rig.part(1), rig.part(2), rig.part(2)]
    assert rig.run(*parts) == {}
    assert [rig.kept(part) for part in parts] == [[0], [1, 2], [3, 4]]


def test_the_batch_is_copied_once_and_only_the_rows_that_requests_have(rig):
    parts = [rig.part(1), rig.part(2)]
    rig.run(*parts)
    assert rig.device.copies.copies.snapshot() == {"device_to_device": 1}
    assert rig.device.copies.bytes["device_to_device"] == 3 * 4 * WIDTH
    for part in parts:
        rig.kept(part)


def test_memory_of_a_batch_goes_with_the_last_request_that_has_a_part_of_it(rig):
    first, second = rig.part(), rig.part()
    rig.run(first, second)
    rig.kept(first)
    assert rig.pool.held_bytes
    rig.kept(second)
    assert not rig.pool.held_bytes


def test_a_request_that_keeps_nothing_has_the_output_fetched(rig):
    stays, comes = rig.part(), rig.part(keeps=False)
    assert rig.run(stays, comes)["y"][1, 0] == 1
    assert rig.kept(stays) == [0]


def test_without_a_request_that_keeps_something_all_is_as_ever(rig):
    assert list(rig.run(rig.part(keeps=False))) == ["y"]
    assert rig.device.copies.copies.snapshot() == {"device_to_host": 1}


def test_a_batch_of_a_warm_up_is_fetched(rig):
    stays = rig.part()
    assert list(rig.run(stays, rig.part(request=None))) == ["y"]
    rig.kept(stays)


def test_states_are_fetched_whatever_stays(rig):
    stays = rig.part(states=("y",))
    assert list(rig.run(stays)) == ["y"]
    assert rig.kept(stays) == [0]


def test_slots_without_a_request_have_nothing_fetched(rig):
    stays, empty = rig.part(), rig.part(keeps=False, is_empty=True)
    assert rig.run(empty, stays) == {}
    assert rig.kept(stays) == [1]


def test_what_is_read_on_another_device_comes_to_the_host(rig):
    part = rig.part(pool=HandedPool(open_noted(), 1 << 20))
    assert list(rig.run(part)) == ["y"]
    assert part.request.kept.tensors == {}


def test_a_tensor_has_the_shape_that_its_clients_see(rig):
    part = rig.part(2)
    rig.run(part, of=output((2, 1, 2), (WIDTH,)))
    assert part.request.kept.tensors["y"].shape == (2, 2, 1, 2)
    rig.kept(part)


@pytest.mark.parametrize("dims", [(3, 1), (-1, 3)], ids=str)
def test_an_output_that_cannot_be_shown_comes_to_the_host_where_that_is_told(rig, dims):
    part = rig.part()
    assert list(rig.run(part, of=output(dims, (-1,) if -1 in dims else (3,)))) == ["y"]
    assert part.request.kept.tensors == {}


def test_without_a_batch_axis_the_whole_output_stays(rig):
    part = rig.part(1)
    rig.run(part, max_batch=0)
    assert part.request.kept.tensors["y"].shape == (1, WIDTH)
    rig.kept(part)


def test_an_output_with_fewer_rows_than_the_batch_comes_to_the_host(rig, monkeypatch):
    monkeypatch.setattr(
        "tests.fakes.engine_context.FakeContext.set_shapes",
        lambda context, shapes: setattr(context, "_shapes", shapes) or {"y": (1, WIDTH)},
    )
    part = rig.part(2)
    assert rig.run(part)["y"].shape == (1, WIDTH)
    assert part.request.kept.tensors == {}


def test_a_device_that_is_lost_fails_the_batch_and_holds_nothing(rig, monkeypatch):
    part = rig.part()
    with monkeypatch.context() as patch:
        patch.setattr(rig.device.driver, "allocate", lose)
        rig.run(part)
    assert isinstance(rig.error, DeviceLostError)
    assert part.request.kept.tensors == {}


def lose(size_bytes, kind, owner):
    raise DeviceLostError("gone")
