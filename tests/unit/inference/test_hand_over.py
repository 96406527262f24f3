"""Tensors between steps that stay on the device: served models on real lanes, over fake engines."""

from __future__ import annotations

import queue
from contextlib import contextmanager

import numpy as np
import pytest

from edgert.device.handed import OWNER, HandedTensor
from edgert.device.memory import MemoryKind
from edgert.errors import DeviceLostError, ModelError, UnknownModelError
from edgert.execute.noop_engine import NoopEngine
from edgert.frames.request import SequenceStep
from edgert.inference.open_version import Opener
from edgert.inference.repository import Repository
from edgert.inference.response_cache import ResponseCache
from edgert.models.store import ModelStore
from edgert.schedule.scheduler import Scheduler
from tests.fakes.device_engine import DeviceEngine, ReplayDriver
from tests.fakes.noted_device import open_noted
from tests.fakes.waiting import answer, ask

TIMEOUT_S = 10.0
SIDE = 4
ROW_BYTES = 4 * SIDE
QUEUED = "dynamic_batching { max_queue_delay_microseconds: 200000 preferred_batch_size: [8] }"


class Store:
    """Models in a folder, with the functions that they compute."""

    def __init__(self, folder):
        self.folder = folder
        self.engines = {}
        self._made = {}

    def add(self, name, function=None, *, inputs=None, outputs=None, rest="", max_batch=8, states=((), ())):
        """Add a model; without a function it is one of the host that answers zeros.

        `states` are inputs and outputs of the engine that no client sees.
        """
        inputs, outputs = inputs or {"X": (SIDE,)}, outputs or {"Y": (SIDE,)}
        hidden = [dict.fromkeys(names, (SIDE,)) for names in states]
        self._made[name] = (function, {**inputs, **hidden[0]}, {**outputs, **hidden[1]})
        self._write(name, 'platform: "tensorrt_plan"', inputs, outputs, rest, max_batch)

    def add_ensemble(self, name, *steps, inputs=("IN",), outputs=("OUT",), max_batch=8):
        """Add an ensemble; a step is (model, inputs, outputs), both by the model's names."""
        listed = " ".join(map(_step, steps))
        sides = [dict.fromkeys(names, (SIDE,)) for names in (inputs, outputs)]
        rest = f"ensemble_scheduling {{ {listed} }}"
        self._write(name, 'platform: "ensemble"', *sides, rest, max_batch)

    def load_engine(self, plan, version, device, threads):
        """Return a model's engine."""
        name = plan.entry.name
        function, inputs, outputs = self._made[name]
        if function is None:
            made = DeviceEngine(device, None, inputs, outputs).info
            return NoopEngine(made.inputs, made.outputs)
        batches = bool(plan.entry.config.max_batch_size)
        self.engines[name] = DeviceEngine(device, function, inputs, outputs, batches=batches)
        return self.engines[name]

    def _write(self, name, head, inputs, outputs, rest, max_batch):
        folder = self.folder / name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "1" / "model.plan").write_bytes(b"")
        (folder / "edgert.toml").write_text('[engine]\nruntime = "tensorrt_rtx"\n')
        if "ensemble" in head:
            (folder / "edgert.toml").unlink()
        (folder / "config.pbtxt").write_text(
            f"{head} max_batch_size: {max_batch} input [{_tensors(inputs)}] "
            f"output [{_tensors(outputs)}] {rest}"
        )


def _step(step):
    model, *maps = step
    sides = zip(("input_map", "output_map"), maps, strict=True)
    pairs = [
        f'{field} {{ key: "{own}" value: "{name}" }}' for field, side in sides for own, name in side.items()
    ]
    return f'step {{ model_name: "{model}" model_version: -1 {" ".join(pairs)} }}'


def _tensors(shapes):
    return ", ".join(
        f'{{ name: "{name}" data_type: TYPE_FP32 dims: [{", ".join(map(str, shape))}] }}'
        for name, shape in shapes.items()
    )


class Served:
    """What serves a store."""

    def __init__(self, store, device, scheduler, *, hands):
        self.device = device
        self.models = ModelStore(store.folder)
        options = {"cache": ResponseCache(1 << 20), "find": self.find if hands else None}
        self.opener = Opener(device, scheduler, store.load_engine, self.infer, **options)
        self.repository = Repository(self.opener.open, retire_s=2.0)

    def load(self, *names):
        for name in names:
            self.repository.load(self.models.entry(name))

    def find(self, model, version):
        return self.repository.get(model, version)

    def infer(self, request):
        self.repository.get(request.model, request.version).infer(request)

    def answer(self, model, inputs, **options):
        return answer(self.infer, model, inputs, **options)

    def copied(self, act):
        """Return the copies that something takes, by kind, and their bytes."""
        copies = self.device.copies
        counts = [copies.copies.snapshot(), copies.bytes.snapshot()]
        act()
        now = [copies.copies.snapshot(), copies.bytes.snapshot()]
        return [
            {kind: n - before.get(kind, 0) for kind, n in after.items() if n != before.get(kind, 0)}
            for before, after in zip(counts, now, strict=True)
        ]


@contextmanager
def serving(store, *, hands=True, staged=True):
    device = open_noted(
        ReplayDriver(compute_capability="8.7"),
        outputs=MemoryKind.PINNED if staged else MemoryKind.MAPPED,
        outputs_are_staged=staged,
    )
    scheduler = Scheduler(current=device.driver.current)
    scheduler.start()
    served = Served(store, device, scheduler, hands=hands)
    try:
        yield served
    finally:
        served.repository.close()
        scheduler.stop()
        assert (device.driver.budget.used_bytes, device.driver.open_graphs) == (0, 0)


def times(factor):
    return lambda x: {"Y": x["X"] * factor}


@pytest.fixture
def store(tmp_path):
    """A store with `double`, `triple`, and the ensemble `both` of the two."""
    store = Store(tmp_path)
    store.add("double", times(2))
    store.add("triple", times(3))
    store.add_ensemble("both", ("double", {"X": "IN"}, {"Y": "mid"}), ("triple", {"X": "mid"}, {"Y": "OUT"}))
    return store


BOTH = ("double", "triple", "both")


def rows(*firsts):
    return np.array([[first] * SIDE for first in firsts], np.float32)


@pytest.mark.parametrize(
    ("hands", "expected"),
    [
        (True, {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2, "device_to_host": 1}),
        (False, {"host_to_host": 2, "host_to_device": 2, "device_to_host": 2}),
    ],
    ids=["handed over", "through the host"],
)
def test_the_tensor_between_two_steps_never_reaches_the_host(store, hands, expected):
    with serving(store, hands=hands) as served:
        served.load(*BOTH)
        values = rows(1, 2)
        for _ in range(3):  # without graphs, then as graphs on both buffer sets
            copies, sizes = served.copied(lambda: check(served, values))
            assert copies == expected
            assert sizes == {kind: count * values.nbytes for kind, count in expected.items()}


def check(served, values, model="both", factor=6):
    outputs = served.answer(model, {"IN": values})
    np.testing.assert_array_equal(outputs["OUT"], values * factor)


def test_graphs_of_both_kinds_are_launched_side_by_side(store):
    with serving(store) as served:
        served.load(*BOTH)
        for _ in range(6):
            check(served, rows(5))
            np.testing.assert_array_equal(served.answer("double", {"X": rows(7)})["Y"], rows(14))
        [lane] = store.engines["double"].lanes
        counts = lane.graph_counts()
        before = counts.launched
        for _ in range(4):
            check(served, rows(8))
            served.answer("double", {"X": rows(7)})
        after = lane.graph_counts()
        assert (after.captured, after.enqueued) == (counts.captured, counts.enqueued)
        assert after.launched - before == 8
        assert sum(len(own.cache._graphs) for own in lane._sets) <= 16


def test_where_outputs_are_not_staged_the_only_copies_between_steps_are_the_devices(store):
    with serving(store, staged=False) as served:
        served.load(*BOTH)
        copies, _ = served.copied(lambda: check(served, rows(1, 2, 3)))
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2}


@pytest.fixture
def queued_store(tmp_path):
    store = Store(tmp_path)
    store.add("double", times(2), rest=QUEUED)
    store.add("triple", times(3), rest=QUEUED)
    store.add_ensemble("both", ("double", {"X": "IN"}, {"Y": "mid"}), ("triple", {"X": "mid"}, {"Y": "OUT"}))
    return store


def test_requests_of_one_batch_share_one_copy_out_and_one_copy_in(queued_store):
    with serving(queued_store) as served:
        served.load(*BOTH)

        def send():
            given = [rows(1), rows(2, 3), rows(4, 5, 6), rows(7, 8)]
            asked = [ask(served.infer, "both", {"IN": values}) for values in given]
            for values, one in zip(given, asked, strict=True):
                np.testing.assert_array_equal(one.final().outputs["OUT"], values * 6)

        copies, sizes = served.copied(send)
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2, "device_to_host": 1}
        assert sizes["device_to_device"] == 2 * 8 * ROW_BYTES


def test_requests_that_want_a_tensor_on_the_host_share_batches_with_those_that_do_not(queued_store):
    with serving(queued_store) as served:
        served.load(*BOTH)
        handed = ask(served.infer, "both", {"IN": rows(1, 2)})
        direct = ask(served.infer, "double", {"X": rows(3, 4, 5)})
        last = ask(served.infer, "both", {"IN": rows(6, 7, 8)})
        np.testing.assert_array_equal(direct.final().outputs["Y"], rows(6, 8, 10))
        arrays = ask(served.infer, "triple", {"X": rows(1, 1, 1)})
        np.testing.assert_array_equal(handed.final().outputs["OUT"], rows(6, 12))
        np.testing.assert_array_equal(last.final().outputs["OUT"], rows(36, 42, 48))
        np.testing.assert_array_equal(arrays.final().outputs["Y"], rows(3, 3, 3))


def test_of_two_outputs_only_the_one_that_somebody_wants_is_fetched(tmp_path):
    store = Store(tmp_path)
    outputs = {"KEEP": (2,), "SHOW": (SIDE,)}
    store.add("split", lambda x: {"KEEP": x["X"][:, :2], "SHOW": -x["X"]}, outputs=outputs)
    store.add("sum", lambda x: {"Y": x["X"].sum(1, keepdims=True) * np.ones(SIDE)}, inputs={"X": (2,)})
    first = ("split", {"X": "IN"}, {"KEEP": "mid", "SHOW": "SIDE"})
    store.add_ensemble("e", first, ("sum", {"X": "mid"}, {"Y": "OUT"}), outputs=("OUT", "SIDE"))
    with serving(store) as served:
        served.load("split", "sum", "e")

        def send():
            outputs = served.answer("e", {"IN": rows(3)})
            np.testing.assert_array_equal(outputs["SIDE"], rows(-3))
            np.testing.assert_array_equal(outputs["OUT"], rows(6))

        copies, sizes = served.copied(send)
        assert (copies["device_to_host"], sizes["device_to_host"]) == (2, 2 * ROW_BYTES)
        assert sizes["device_to_device"] == 2 * 2 * 4


def test_a_tensor_that_the_answer_has_too_comes_to_the_host_once_and_goes_on_on_the_device(store):
    store.add_ensemble(
        "told",
        ("double", {"X": "IN"}, {"Y": "MID"}),
        ("triple", {"X": "MID"}, {"Y": "OUT"}),
        outputs=("MID", "OUT"),
    )
    with serving(store) as served:
        served.load("double", "triple", "told")

        def send():
            outputs = served.answer("told", {"IN": rows(1)})
            np.testing.assert_array_equal([outputs["MID"], outputs["OUT"]], [rows(2), rows(6)])

        copies, _ = served.copied(send)
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2, "device_to_host": 2}
        only = served.copied(lambda: served.answer("told", {"IN": rows(1)}, outputs=("OUT",)))[0]
        assert (only["device_to_device"], only["device_to_host"]) == (2, 1)


def test_a_reshaped_tensor_is_handed_over_in_the_shape_of_its_clients(tmp_path):
    store = Store(tmp_path)
    store.add("flat", times(2), outputs={"Y": (SIDE,)})
    store.add(
        "square", lambda x: {"Y": x["X"].transpose(0, 2, 1)}, inputs={"X": (2, 2)}, outputs={"Y": (2, 2)}
    )
    reshape(store, "flat", "output", "[4]", "[2, 2, 1] reshape: { shape: [4] }")
    reshape(store, "square", "input", "[2, 2]", "[2, 2, 1] reshape: { shape: [2, 2] }")
    reshape(store, "square", "output", "[2, 2]", "[4] reshape: { shape: [2, 2] }")
    store.add_ensemble("e", ("flat", {"X": "IN"}, {"Y": "mid"}), ("square", {"X": "mid"}, {"Y": "OUT"}))
    with serving(store) as served:
        served.load("flat", "square", "e")
        values = np.arange(8, dtype=np.float32).reshape(2, 4)
        copies, _ = served.copied(
            lambda: np.testing.assert_array_equal(
                served.answer("e", {"IN": values})["OUT"], values[:, [0, 2, 1, 3]] * 2
            )
        )
        assert (copies["device_to_device"], copies["device_to_host"]) == (2, 1)


def reshape(store, model, side, dims, becomes):
    file = store.folder / model / "config.pbtxt"
    before, field, rest = file.read_text().partition(f"{side} [")
    file.write_text(before + field + rest.replace(f"dims: {dims}", f"dims: {becomes}", 1))


def test_models_without_a_batch_axis_hand_over_whole_tensors(tmp_path):
    store = Store(tmp_path)
    store.add("double", times(2), max_batch=0)
    store.add("triple", times(3), max_batch=0)
    steps = ("double", {"X": "IN"}, {"Y": "mid"}), ("triple", {"X": "mid"}, {"Y": "OUT"})
    store.add_ensemble("both", *steps, max_batch=0)
    with serving(store) as served:
        served.load(*BOTH)
        copies, sizes = served.copied(lambda: check(served, rows(7)[0]))
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 2, "device_to_host": 1}
        assert sizes["device_to_device"] == 2 * ROW_BYTES


def test_a_tensor_that_two_steps_read_stays_until_both_have(store):
    store.add("add", lambda x: {"Y": x["A"] + x["B"]}, inputs={"A": (SIDE,), "B": (SIDE,)})
    store.add_ensemble(
        "diamond",
        ("double", {"X": "IN"}, {"Y": "two"}),
        ("triple", {"X": "two"}, {"Y": "six"}),
        ("add", {"A": "two", "B": "six"}, {"Y": "OUT"}),
    )
    with serving(store) as served:
        served.load("double", "triple", "add", "diamond")
        copies, _ = served.copied(lambda: check(served, rows(1, 2), "diamond", 8))
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 5, "device_to_host": 1}


def test_memory_is_used_again_and_freed_with_the_last_ensemble(store):
    with serving(store) as served:
        served.load(*BOTH)
        for _ in range(5):
            check(served, rows(1))
        held = served.device.driver.budget.by_owner()[OWNER]
        assert (held.count, held.used_bytes) == (1, 4096)
        served.repository.unload("both", waits=True)
        assert served.device.driver.budget.by_owner()[OWNER].used_bytes == 0


def test_without_room_a_tensor_goes_through_the_host_and_that_is_counted(store, caplog):
    with serving(store) as served:
        served.load(*BOTH)
        pool = served.opener._pools.of(served.device)
        pool._limit_bytes = 1
        copies, _ = served.copied(lambda: check(served, rows(1)))
        assert copies == {"host_to_host": 2, "host_to_device": 2, "device_to_host": 2}
        check(served, rows(2))
        assert pool.refused == 2
        assert len([record for record in caplog.records if "no room for" in record.getMessage()]) == 1


def test_a_step_on_the_host_gets_arrays(store):
    store.add("zero", max_batch=1)
    steps = ("double", {"X": "IN"}, {"Y": "mid"}), ("zero", {"X": "mid"}, {"Y": "OUT"})
    store.add_ensemble("mixed", *steps, max_batch=1)
    with serving(store) as served:
        served.load("double", "zero", "mixed")
        copies, _ = served.copied(lambda: check(served, rows(1), "mixed", 0))
        assert "device_to_device" not in copies
        assert copies["device_to_host"] == 1


def test_a_step_that_has_moved_to_the_host_meanwhile_gets_an_array(store):
    with serving(store) as served:
        served.load(*BOTH)
        held = hold(served, "triple")
        asked = ask(served.infer, "both", {"IN": rows(1)})
        request = held.get(timeout=TIMEOUT_S)
        store.add("triple", max_batch=1)
        served.load("triple")
        copies, _ = served.copied(lambda: (served.infer(request), asked.final()))
        np.testing.assert_array_equal(asked.responses[0].outputs["OUT"], rows(0))
        assert copies == {"device_to_host": 1, "host_to_host": 1}


def test_a_step_that_has_got_a_cache_meanwhile_looks_up_an_array(store):
    with serving(store) as served:
        served.load(*BOTH)
        held = hold(served, "triple")
        asked = [ask(served.infer, "both", {"IN": rows(1)}) for _ in range(2)]
        requests = [held.get(timeout=TIMEOUT_S) for _ in asked]
        store.add("triple", times(3), rest="response_cache { enable: true }")
        served.load("triple")
        for request, one in zip(requests, asked, strict=True):
            served.infer(request)
            np.testing.assert_array_equal(one.final().outputs["OUT"], rows(6))
        assert served.opener._cache.statistics().hits == 1


def hold(served, model):
    """Return a queue that gets what the ensemble `both` sends to a model, which does not get it."""
    held = queue.Queue()
    served.repository.get("both")._step_infer = lambda request: (
        held.put(request) if request.model == model else served.infer(request)
    )
    return held


def test_a_step_that_is_gone_meanwhile_is_told_and_its_tensor_given_back(store):
    with serving(store) as served:
        served.load(*BOTH)

        def infer(request):
            if request.model == "triple":
                raise UnknownModelError("'triple' is not found")
            served.infer(request)

        served.repository.get("both")._step_infer = infer
        error = ask(served.infer, "both", {"IN": rows(1)}).final().error
        assert "'triple' is not found" in str(error)
        assert HandedTensor.live.count == 0


@pytest.mark.parametrize("model", ["double", "triple"])
def test_a_step_that_fails_gives_back_what_it_made_and_what_it_was_given(store, model):
    with serving(store) as served:
        served.load(*BOTH)
        store.engines[model].fails.append(ModelError("did not run"))
        error = ask(served.infer, "both", {"IN": rows(1, 2)}).final().error
        assert str(error) == "in ensemble 'both', did not run"
        assert HandedTensor.live.count == 0
        check(served, rows(1, 2))


def test_a_lost_device_leaves_no_tensor(store):
    with serving(store) as served:
        served.load(*BOTH)
        store.engines["triple"].fails.append(DeviceLostError("gone"))
        assert isinstance(ask(served.infer, "both", {"IN": rows(1)}).final().error, DeviceLostError)
        assert HandedTensor.live.count == 0


def test_a_request_that_is_cancelled_between_steps_gives_its_tensor_back(store):
    with serving(store) as served:
        served.load(*BOTH)
        asked = []

        def infer(request):
            asked.append(request)
            request.responder._run._request.is_cancelled = True
            served.infer(request)

        served.repository.get("both")._step_infer = infer
        assert "cancelled" in str(ask(served.infer, "both", {"IN": rows(1)}).final().error)
        assert [request.model for request in asked] == ["double"]
        assert HandedTensor.live.count == 0


def test_an_ensemble_in_an_ensemble_hands_over_too(store):
    store.add_ensemble(
        "outer", ("both", {"IN": "IN"}, {"OUT": "mid"}), ("both", {"IN": "mid"}, {"OUT": "OUT"})
    )
    with serving(store) as served:
        served.load(*BOTH, "outer")
        copies, _ = served.copied(lambda: check(served, rows(1, 2), "outer", 36))
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 6, "device_to_host": 1}


def test_an_inner_tensor_that_the_outer_answer_has_too_is_both(store):
    store.add("last", times(1))
    store.add_ensemble(
        "outer",
        ("both", {"IN": "IN"}, {"OUT": "MID"}),
        ("last", {"X": "MID"}, {"Y": "OUT"}),
        outputs=("MID", "OUT"),
    )
    with serving(store) as served:
        served.load(*BOTH, "last", "outer")

        def send():
            outputs = served.answer("outer", {"IN": rows(1)})
            np.testing.assert_array_equal([outputs["MID"], outputs["OUT"]], [rows(6), rows(6)])

        copies, _ = served.copied(send)
        assert copies == {"host_to_host": 1, "host_to_device": 1, "device_to_device": 4, "device_to_host": 2}


def test_an_outer_ensemble_whose_later_step_fails_gives_the_inner_ones_tensor_back(store):
    store.add("last", times(1))
    store.add_ensemble("outer", ("both", {"IN": "IN"}, {"OUT": "mid"}), ("last", {"X": "mid"}, {"Y": "OUT"}))
    with serving(store) as served:
        served.load(*BOTH, "last", "outer")
        store.engines["last"].fails.append(ModelError("did not run"))
        error = ask(served.infer, "outer", {"IN": rows(1)}).final().error
        assert "did not run" in str(error)
        assert HandedTensor.live.count == 0


@pytest.mark.parametrize("cached", ["double", "triple"])
def test_what_a_step_with_a_cache_is_given_and_gives_are_arrays(tmp_path, cached):
    store = Store(tmp_path)
    for name, factor in (("double", 2), ("triple", 3)):
        store.add(name, times(factor), rest="response_cache { enable: true }" if name == cached else "")
    store.add_ensemble("both", ("double", {"X": "IN"}, {"Y": "mid"}), ("triple", {"X": "mid"}, {"Y": "OUT"}))
    with serving(store) as served:
        served.load(*BOTH)
        first, _ = served.copied(lambda: check(served, rows(1)))
        again, _ = served.copied(lambda: check(served, rows(1)))
        assert first == {"host_to_host": 2, "host_to_device": 2, "device_to_host": 2}
        assert again == {"host_to_host": 1, "host_to_device": 1, "device_to_host": 1}  # of the other step


SUMMING = """sequence_batching {
    state [{ input_name: "S" output_name: "S2" data_type: TYPE_FP32 dims: [4] initial_state: {
        name: "zero" data_type: TYPE_FP32 dims: [4] zero_data: true } }] }"""


def test_a_step_with_sequences_keeps_its_states_on_the_host_and_hands_the_rest_over(store):
    store.add(
        "sum",
        lambda x: {"Y": x["X"] + x["S"], "S2": x["X"] + x["S"]},
        rest=SUMMING,
        states=(["S"], ["S2"]),
    )
    store.add_ensemble(
        "summed",
        ("double", {"X": "IN"}, {"Y": "two"}),
        ("sum", {"X": "two"}, {"Y": "sum"}),
        ("triple", {"X": "sum"}, {"Y": "OUT"}),
    )
    with serving(store) as served:
        served.load("double", "triple", "sum", "summed")

        def send(number, sequence):
            step = SequenceStep(sequence, is_start=number == 1, is_end=number == 3)
            return served.answer("summed", {"IN": rows(number)}, sequence=step)["OUT"][0, 0]

        assert [send(number, sequence) for number in (1, 2, 3) for sequence in (7, 8)] == [
            6,
            6,
            18,
            18,
            36,
            36,
        ]
        copies, sizes = served.copied(lambda: send(1, 9))
        assert copies["device_to_device"] == 4
        assert sizes["device_to_host"] == 2 * ROW_BYTES  # the state, and the answer


def test_ensembles_that_go_through_the_same_models_in_opposite_directions_never_wait_for_ever(queued_store):
    store = queued_store
    steps = ("triple", {"X": "IN"}, {"Y": "mid"}), ("double", {"X": "mid"}, {"Y": "OUT"})
    store.add_ensemble("back", *steps)
    with serving(store) as served:
        served.load(*BOTH, "back")
        served.opener._pools.of(served.device)._limit_bytes = 2 * 4096  # some of them have no room
        asked = [(n, ask(served.infer, ("both", "back")[n % 2], {"IN": rows(n)})) for n in range(100)]
        for number, one in asked:
            np.testing.assert_array_equal(one.final().outputs["OUT"], rows(6 * number))


def test_answers_that_wait_for_their_turn_are_handed_over_in_order(tmp_path):
    store = Store(tmp_path)
    ordered = "dynamic_batching { preserve_ordering: true } instance_group [{ count: 2 }]"
    store.add("double", times(2), rest=ordered)
    store.add("triple", times(3), rest=ordered)
    store.add_ensemble("both", ("double", {"X": "IN"}, {"Y": "mid"}), ("triple", {"X": "mid"}, {"Y": "OUT"}))
    with serving(store) as served:
        served.load(*BOTH)
        asked = [ask(served.infer, "both", {"IN": rows(n)}) for n in range(40)]
        for number, one in enumerate(asked):
            np.testing.assert_array_equal(one.final().outputs["OUT"], rows(number * 6))
