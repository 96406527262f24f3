"""Ensembles whose steps hand their tensors over on the GPU: what is copied, answered and freed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from edgert.device.handed import LEAST_BYTES, OWNER, HandedPool, HandedTensor
from edgert.device.memory import MemoryKind
from edgert.device.opened import open_device
from edgert.errors import ClosedError, UnavailableError
from edgert.execute.engine import DeviceTensor
from edgert.inference.fill import DeviceRequestFiller, EngineShapes, Part
from edgert.inference.open_version import Opener
from edgert.inference.repository import Repository
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.models.store import ModelStore
from edgert.pipeline.open_model import load_engine
from edgert.pipeline.shared_engines import SharedEngines
from edgert.schedule.scheduler import Scheduler
from tests.fakes.waiting import answer, ask
from tests.gpu.test_served_models import SIDE, add_model, rows

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

ROW_BYTES = 4 * SIDE
RUN_AS = 8  # rows: what the engine's profile favours for four, and so what is fetched
TIMEOUT_S = 60.0
BATCHED = "dynamic_batching { max_queue_delay_microseconds: 200 } instance_group [{ count: 2 }]"


def add_ensemble(store, name, first, second):
    """Write an ensemble of two models, one behind the other."""
    (store / name / "1").mkdir(parents=True)
    (store / name / "config.pbtxt").write_text(
        f"""platform: "ensemble" max_batch_size: 8
        input [{{ name: "IN" data_type: TYPE_FP32 dims: [{SIDE}] }}]
        output [{{ name: "OUT" data_type: TYPE_FP32 dims: [{SIDE}] }}]
        ensemble_scheduling {{
            step {{ model_name: "{first}" model_version: -1
                input_map {{ key: "X" value: "IN" }} output_map {{ key: "Y" value: "mid" }} }}
            step {{ model_name: "{second}" model_version: -1
                input_map {{ key: "X" value: "mid" }} output_map {{ key: "Y" value: "OUT" }} }}
        }}"""
    )


class Served:
    """What serves a store on the GPU; with `hands` steps hand over there."""

    def __init__(self, store, device, scheduler, *, hands):
        self.device = device
        self._models = ModelStore(store)
        find = self._find if hands else None
        opener = Opener(device, scheduler, SharedEngines(load_engine).load, self.infer, find=find)
        self.repository = Repository(opener.open, retire_s=5.0)

    def load(self, *names):
        for name in names:
            self.repository.load(self._models.entry(name))

    def infer(self, request):
        self.repository.get(request.model, request.version).infer(request)

    def check(self, model, values, factor, name="IN"):
        """Ask, and hold the answer against what it ought to be."""
        [given] = answer(self.infer, model, {name: values}).values()
        np.testing.assert_array_equal(given, values * factor)

    def copied(self, act):
        """Return the copies that something takes, by kind: how many, and their bytes."""
        copies = self.device.copies
        before = copies.copies.snapshot(), copies.bytes.snapshot()
        act()
        after = copies.copies.snapshot(), copies.bytes.snapshot()
        return [
            {kind: n - old.get(kind, 0) for kind, n in new.items() if n != old.get(kind, 0)}
            for old, new in zip(before, after, strict=True)
        ]

    def _find(self, model, version):
        return self.repository.get(model, version)


@contextmanager
def serving(store, *, hands=True):
    device = open_device("cuda")
    scheduler = Scheduler(current=device.driver.current)
    scheduler.start()
    served = Served(store, device, scheduler, hands=hands)
    try:
        yield served
    finally:
        served.repository.close()
        scheduler.stop()
        device.close()
        assert device.driver.budget.used_bytes == 0, device.driver.budget.holders()
        assert HandedTensor.live.count == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with two models, and the ensembles `both` and `back` of them in either order."""
    folder = tmp_path_factory.mktemp("store")
    add_model(folder, "double", 2.0)
    add_model(folder, "triple", 3.0)
    add_ensemble(folder, "both", "double", "triple")
    return folder


@pytest.fixture(scope="module")
def busy_store(tmp_path_factory):
    """The same, where requests share batches, on two lanes each."""
    folder = tmp_path_factory.mktemp("busy")
    add_model(folder, "double", 2.0, BATCHED)
    add_model(folder, "triple", 3.0, BATCHED)
    add_ensemble(folder, "both", "double", "triple")
    add_ensemble(folder, "back", "triple", "double")
    return folder


ALL = ("double", "triple", "both")


@pytest.mark.parametrize("hands", [True, False], ids=["handed over", "through the host"])
def test_the_tensor_between_the_steps_stays_on_the_gpu(store, hands):
    expected = {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2, "device_to_host": 1}
    if not hands:
        expected = {"host_to_host": 2, "host_to_device": 2, "device_to_host": 2}
    with serving(store, hands=hands) as served:
        if not served.device.memory.outputs_are_staged:
            del expected["device_to_host"]
        served.load(*ALL)
        for turn in range(10):  # without graphs, then as graphs on both buffer sets
            values = rows(turn, turn + 1, turn + 2, turn + 3)
            copies, sizes = served.copied(lambda values=values: served.check("both", values, 6))
            assert copies == expected, f"turn {turn}"
            ran = {kind: RUN_AS if kind == "device_to_host" else 4 for kind in expected}
            assert sizes == {kind: count * ran[kind] * ROW_BYTES for kind, count in expected.items()}


def test_batches_of_every_size_are_handed_over_with_their_own_rows_only(store):
    with serving(store) as served:
        served.load(*ALL)
        for count in (1, 2, 3, 5, 7, 8):
            values = rows(*(100 * count + row for row in range(count)))
            _, sizes = served.copied(lambda values=values: served.check("both", values, 6))
            assert sizes["device_to_device"] == 2 * count * ROW_BYTES


def test_graphs_with_and_without_the_fetch_are_launched_side_by_side(store):
    with serving(store) as served:
        served.load(*ALL)
        for turn in range(50):
            served.check("both", rows(turn), 6)
            served.check("double", rows(turn), 2, "X")
            served.check("triple", rows(turn, turn), 3, "X")


def test_many_senders_of_both_directions_and_of_single_models_get_what_is_theirs(busy_store):
    """Two models that waited for each other's memory would wait for ever."""
    asked = [("both", "IN", 6), ("back", "IN", 6), ("double", "X", 2), ("triple", "X", 3)]
    wrong = []
    with serving(busy_store) as served:
        served.load(*ALL, "back")

        def send(number):
            model, name, factor = asked[number % 4]
            for turn in range(150):
                values = rows(*(number * 1000 + turn + row for row in range(1 + (number + turn) % 3)))
                [given] = answer(served.infer, model, {name: values}).values()
                if not np.array_equal(given, values * factor):
                    wrong.append((model, number, turn))

        senders = [threading.Thread(target=send, args=(number,)) for number in range(16)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(TIMEOUT_S)
            assert not sender.is_alive()
        assert served.device.copies.copies["device_to_device"] > 0
    assert wrong == []


def test_a_flood_beyond_the_pools_bound_is_answered_rightly_through_the_host(busy_store, monkeypatch):
    monkeypatch.setattr("edgert.device.handed.SHARE", 1 << 24)  # of 140 GB: two small tensors
    with serving(busy_store) as served:
        served.load(*ALL, "back")
        asked = [(n, ask(served.infer, ("both", "back")[n % 2], {"IN": rows(n)})) for n in range(400)]
        for number, one in asked:
            np.testing.assert_array_equal(one.final().outputs["OUT"], rows(number) * 6)
        pool = served.repository.get("double").pool_of("X")
        assert pool.held_bytes <= served.device.driver.memory_info()[1] // (1 << 24)


def test_a_step_that_is_loaded_again_under_traffic_loses_no_tensor(busy_store):
    stop, counts, wrong = threading.Event(), {"ok": 0}, []
    with serving(busy_store) as served:
        served.load(*ALL)

        def send():
            while not stop.is_set():
                try:
                    [given] = answer(served.infer, "both", {"IN": rows(3)}).values()
                except (ClosedError, UnavailableError):
                    continue  # a core asks the version that came in its place
                counts["ok"] += 1
                if not np.array_equal(given, rows(3) * 6):
                    wrong.append(counts["ok"])

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        for _ in range(3):
            served.load("triple", "double")
        stop.set()
        for sender in senders:
            sender.join(TIMEOUT_S)
            assert not sender.is_alive()
    assert wrong == []
    assert counts["ok"] > 0


def test_the_pools_memory_goes_with_the_last_ensemble(store):
    with serving(store) as served:
        served.load(*ALL)
        served.check("both", rows(1), 6)
        owners = served.device.driver.budget.by_owner
        assert owners()[OWNER].used_bytes > 0
        served.repository.unload("both", waits=True)
        assert owners()[OWNER].used_bytes == 0
        served.check("double", rows(1), 2, "X")


def test_a_tensor_that_lost_its_place_comes_to_the_host_from_any_thread():
    device = open_device("cuda")
    pool = HandedPool(device)
    pool.join()
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    staged = device.driver.allocate(values.nbytes, MemoryKind.PINNED, "test")
    staged.view_u8[:] = values.view(np.uint8).ravel()
    loan = pool.take(values.nbytes)
    with device.driver.current():
        stream = device.driver.open_stream()
        stream.copy(loan.buffer.address, staged.address, values.nbytes)
        stream.synchronize()
        stream.close()
    tensor = HandedTensor(loan, 400, (4, 100), values.dtype)
    pool.let_go(loan)
    came = []
    thread = threading.Thread(target=lambda: came.append(tensor.to_array()))
    thread.start()
    thread.join(TIMEOUT_S)
    tensor.release()
    staged.free()
    pool.leave()
    device.close()
    np.testing.assert_array_equal(came[0], values[1:5])


class Rows:
    """Tensors of one row on the GPU that fill their memories, and a buffer set for all of them."""

    index = 0
    width = LEAST_BYTES // 4

    def __init__(self, device, pool, count):
        self.stream = device.driver.open_stream()
        self.values = np.arange(count * self.width, dtype=np.float32).reshape(count, self.width)
        self._staged = device.driver.allocate(self.values.nbytes, MemoryKind.PINNED, "test")
        self._input = device.driver.allocate(self.values.nbytes, MemoryKind.DEVICE, "test")
        loans = sorted((pool.take(LEAST_BYTES) for _ in range(count)), key=lambda loan: loan.buffer.address)
        self.tensors = [HandedTensor(loan, 0, (1, self.width), np.dtype(np.float32)) for loan in loans]
        for loan in loans:
            pool.let_go(loan)
        self._staged.view_u8[:] = self.values.view(np.uint8).ravel()
        for row, tensor in enumerate(self.tensors):
            self.stream.copy(tensor.address, self._staged.address + row * LEAST_BYTES, LEAST_BYTES)
        self.stream.synchronize()
        self._staged.view_u8[:] = 0

    def inputs(self, shapes):
        return {"X": DeviceTensor(self._input.address, shapes["X"], "float32")}

    def filled(self):
        self.stream.copy(self._staged.address, self._input.address, self.values.nbytes)
        self.stream.synchronize()
        return self._staged.view_u8.view(np.float32).reshape(self.values.shape)

    def close(self):
        self.stream.close()
        for tensor in self.tensors:
            tensor.release()
        self._staged.free()
        self._input.free()


def test_tensors_that_fill_memories_side_by_side_share_a_batch(device):
    """CUDA refuses a copy that reaches from one allocation into the next."""
    pool = HandedPool(device)
    pool.join()
    with device.driver.current():
        rows = Rows(device, pool, 8)
        given = TensorConfig(name="X", dtype="float32", dims=(rows.width,))
        shapes = EngineShapes(ModelConfig(max_batch_size=8, inputs=(given,)))
        places = [tensor.address for tensor in rows.tensors]
        assert any(one + LEAST_BYTES == other for one, other in pairwise(places))
        filler = DeviceRequestFiller(shapes, device, "test")
        filler.fill([Part({"X": tensor}, 1) for tensor in rows.tensors], rows)
        np.testing.assert_array_equal(rows.filled(), rows.values)
        rows.close()
    pool.leave()
