"""Models whose instance groups name several GPUs: placed, fed from one queue, limited, closed."""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import pytest

from edgert.errors import ClosedError, DeviceLostError, EngineMismatchError, ModelError
from edgert.frames.request import SequenceStep
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.device_lane import INFO
from tests.fakes.several_gpus import WIDTH, run_all, serving_gpus
from tests.fakes.waiting import answer, ask

TIMEOUT_S = 10.0
BOTH = "instance_group [{ count: 1 kind: KIND_GPU gpus: [0, 1] }]"
SECOND = "instance_group [{ gpus: [1] }]"


@pytest.fixture
def gpus(tmp_path):
    with serving_gpus(tmp_path) as gpus:
        yield gpus


def values(first, count=1):
    return np.full((count, WIDTH), first, np.float32)


class Rendezvous:
    """Holds runs until two are under way at once, or patience is over; `most` is how many ever were."""

    def __init__(self, *contexts, patience_s=TIMEOUT_S):
        self._change = threading.Condition()
        self._patience_s = patience_s
        self._running = self.most = 0
        for context in contexts:
            context.on_run = self._run

    def _run(self):
        with self._change:
            self._running += 1
            self.most = max(self.most, self._running)
            self._change.notify_all()
            self._change.wait_for(lambda: self.most > 1, self._patience_s)
            self._running -= 1


# Where lanes are


def test_a_group_has_its_lanes_on_each_gpu_and_the_engine_is_loaded_once_for_each(gpus):
    gpus.add("m", "instance_group [{ count: 2 kind: KIND_GPU gpus: [0, 1] }]")
    gpus.load("m")
    assert [len(gpus.contexts("m", gpu)) for gpu in (0, 1)] == [2, 2]
    assert [len(gpus.engines["m", gpu]) for gpu in (0, 1)] == [1, 1]


def test_a_model_without_groups_and_one_whose_group_names_no_gpu_stay_on_the_first(gpus):
    gpus.add("plain")
    gpus.add("grouped", "instance_group [{ count: 2 kind: KIND_GPU }]")
    for name in ("plain", "grouped"):
        gpus.load(name)
    assert list(gpus.engines) == [("plain", 0), ("grouped", 0)]


def test_a_group_may_be_on_another_gpu_than_the_first_alone(gpus):
    gpus.add("m", SECOND)
    gpus.load("m")
    assert list(gpus.engines) == [("m", 1)]
    np.testing.assert_array_equal(answer(gpus.infer, "m", {"x": values(3)})["y"], values(3))


def test_lanes_of_edgert_toml_are_those_of_all_gpus(gpus):
    gpus.add("m", BOTH, "lanes = 3")
    gpus.load("m")
    assert [len(gpus.contexts("m", gpu)) for gpu in (0, 1)] == [2, 1]


def test_a_gpu_that_is_not_there_is_refused_with_the_place_of_the_field(gpus):
    gpus.add("m", "instance_group [{ gpus: [0] }, { gpus: [0, 5] }]")
    told = r"m/config.pbtxt: field instance_group\[1\].gpus: found 5: GPU 5 is not there.* has 2 GPUs"
    with pytest.raises(ModelError, match=told):
        gpus.load("m")
    assert gpus.engines == {}


def test_an_engine_that_does_not_fit_a_gpu_names_it_and_leaves_nothing_behind(gpus):
    gpus.add("m", BOTH)
    gpus.failures[1] = EngineMismatchError("/store/m/1/model.plan: was built for compute 8.7")
    told = r"GPU 1 \(Fake 1, compute 8.7\): /store/m/1/model.plan: was built for"
    with pytest.raises(EngineMismatchError, match=told):
        gpus.load("m")
    assert [engine.is_closed for engine in gpus.engines["m", 0]] == [True]
    gpus.load("m")
    assert answer(gpus.infer, "m", {"x": values(1)})["y"][0, 0] == 1


def test_engines_of_two_gpus_must_have_the_same_tensors(gpus, tmp_path):
    gpus.add("m")
    (tmp_path / "m" / "config.pbtxt").write_text(f'platform: "tensorrt_plan" max_batch_size: 8 {BOTH}')
    gpus.infos[1] = msgspec.structs.replace(INFO, outputs=(TensorSpec("z", "float32", (-1, WIDTH)),))
    told = r"GPU 1 \(.*m/config.pbtxt: field cc_model_filenames: its engine has other tensors than .* GPU 0"
    with pytest.raises(ModelError, match=told):
        gpus.load("m")
    assert [engine.is_closed for loads in gpus.engines.values() for engine in loads] == [True, True]


def test_warmups_run_on_every_lane_with_its_own_device_current(gpus):
    warm_up = """model_warmup [{ name: "zeros" batch_size: 4 count: 2
        inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }]"""
    gpus.add("cold", BOTH)
    gpus.add("warm", BOTH + warm_up)
    for name in ("cold", "warm"):
        gpus.load(name)
    for gpu in (0, 1):
        assert gpus.runs("warm", gpu)[0] - gpus.runs("cold", gpu)[0] == 2
    assert gpus.served("warm").statistics().execution_count == 4


# One queue


def test_eight_senders_have_every_request_answered_once_and_both_gpus_work(gpus):
    gpus.add("m", BOTH + " dynamic_batching { }")
    gpus.load("m")
    rendezvous = Rendezvous(*gpus.contexts("m", 0), *gpus.contexts("m", 1))
    before = [gpus.runs("m", gpu)[0] for gpu in (0, 1)]

    def send(sender):
        for step in range(50):
            wanted = values(sender * 1000 + step, count=3 - step % 3)
            asked = ask(gpus.infer, "m", {"x": wanted})
            np.testing.assert_array_equal(asked.final().outputs["y"], wanted)
            assert len(asked.responses) == 1

    run_all(send, range(8))
    assert rendezvous.most == 2
    after = [gpus.runs("m", gpu)[0] for gpu in (0, 1)]
    assert all(more > less for more, less in zip(after, before, strict=True))
    statistics = gpus.served("m").statistics()
    assert statistics.inference_stats.success.count == 400
    assert statistics.execution_count == sum(after) - sum(before)
    assert statistics.pending == 0


def test_each_gpu_is_used_by_its_own_schedulers_thread_only(gpus):
    gpus.add("m", BOTH)
    gpus.load("m")
    contexts = [gpus.contexts("m", gpu)[0] for gpu in (0, 1)]
    for context in contexts:
        context.threads.clear()
    Rendezvous(*contexts)
    run_all(lambda _: answer(gpus.infer, "m", {"x": values(1)}), range(8))
    threads = [set(context.threads) for context in contexts]
    assert threads == [{gpus.scheduler.thread}, {gpus.further.site(1).scheduler.thread}]


def test_while_one_gpu_is_busy_the_other_serves_alone(gpus):
    gpus.add("m", BOTH)
    gpus.load("m")
    held, may_go = threading.Event(), threading.Event()

    def hold():
        held.set()
        assert may_go.wait(TIMEOUT_S)

    gpus.contexts("m", 0)[0].on_run = hold
    first = []
    deadline = time.monotonic() + TIMEOUT_S
    while not held.wait(0.001) and time.monotonic() < deadline:  # the other may be quicker, for a while
        first.append(ask(gpus.infer, "m", {"x": values(len(first))}))
    assert held.is_set()
    for number in range(20):
        assert answer(gpus.infer, "m", {"x": values(number)})["y"][0, 0] == number
    may_go.set()
    assert [asked.final().outputs["y"][0, 0] for asked in first] == list(range(len(first)))


def test_a_lane_on_another_gpu_is_woken_for_a_request_that_comes_later(gpus):
    gpus.add("m", SECOND + " dynamic_batching { max_queue_delay_microseconds: 2000 }")
    gpus.load("m")
    for number in range(50):
        assert answer(gpus.infer, "m", {"x": values(number)})["y"][0, 0] == number


def test_a_model_goes_while_another_works_on_the_same_gpu(gpus):
    gpus.add("goes", BOTH)
    gpus.add("stays", SECOND)
    for name in ("goes", "stays"):
        gpus.load(name)
    is_over = threading.Event()

    def send(number):
        step = 0
        while not is_over.is_set():
            step += 1
            assert answer(gpus.infer, "stays", {"x": values(step)})["y"][0, 0] == step
        assert step

    def change(_):
        for _ in range(5):
            assert answer(gpus.infer, "goes", {"x": values(7)})["y"][0, 0] == 7
            gpus.repository.unload("goes", waits=True)
            gpus.load("goes")
        is_over.set()

    run_all(lambda number: send(number) if number else change(number), range(3))
    assert [engine.is_closed for engine in gpus.engines["goes", 1]] == [True] * 5 + [False]


def test_no_request_is_lost_while_a_model_on_two_gpus_is_loaded_again(gpus):
    gpus.add("m", BOTH + " dynamic_batching { }")
    gpus.load("m")
    is_over = threading.Event()
    answered = []

    def send(number):
        while not is_over.is_set():
            try:
                assert answer(gpus.infer, "m", {"x": values(number)})["y"][0, 0] == number
            except ClosedError:
                continue  # a core asks the version that came in its place
            answered.append(number)

    def load_again(_):
        for _ in range(5):
            gpus.load("m")
        is_over.set()

    run_all(lambda number: send(number) if number else load_again(number), range(4))
    assert set(answered) == {1, 2, 3}


def test_a_lost_gpu_is_told_with_its_number(gpus):
    gpus.add("m", SECOND)
    gpus.load("m")
    gpus.contexts("m", 1)[0].fails = DeviceLostError("gone")
    with pytest.raises(DeviceLostError, match="GPU 1: gone"):
        answer(gpus.infer, "m", {"x": values(1)})
    assert str(gpus.lost.get(timeout=TIMEOUT_S)) == "GPU 1: gone"


def test_steps_of_an_ensemble_on_different_gpus_hand_over_what_they_found(gpus):
    for name, groups in (("first", ""), ("second", SECOND), ("both", BOTH), ("again", SECOND)):
        gpus.add(name, groups)
        gpus.load(name)
    gpus.add_ensemble("chain", "first", "second", "again", "both", "first")
    gpus.load("chain")

    def send(number):
        for step in range(20):
            wanted = values(number * 100 + step, count=1 + step % 3)
            np.testing.assert_array_equal(answer(gpus.infer, "chain", {"x": wanted})["y"], wanted)

    run_all(send, range(6))


# Sequences


def test_a_sequence_stays_on_its_lane_whichever_gpu_that_is_on(gpus):
    gpus.add("m", BOTH + " sequence_batching { max_sequence_idle_microseconds: 60000000 }")
    gpus.load("m")

    def step(number, *, is_start=False, is_end=False):
        told = SequenceStep(number, is_start, is_end)
        assert answer(gpus.infer, "m", {"x": values(number)}, sequence=told)["y"][0, 0] == number

    for number in (1, 2, 3):
        step(number, is_start=True)
    before = [gpus.runs("m", gpu)[0] for gpu in (0, 1)]
    for _ in range(5):
        step(2)
    ran = [gpus.runs("m", gpu)[0] - runs for gpu, runs in zip((0, 1), before, strict=True)]
    assert sorted(ran) == [0, 5]
    assert ran[1] == 5  # the first lane has the first sequence, the second is on the other GPU
    for number in (1, 2, 3):
        step(number, is_end=True)


# Limits


def limited(resource):
    return f"""instance_group [{{ count: 1 kind: KIND_GPU gpus: [0, 1]
        rate_limiter {{ resources [{{ name: "r" {resource} count: 1 }}] }} }}]"""


def test_a_resource_is_there_on_each_gpu(gpus):
    gpus.add("m", limited(""))
    gpus.load("m")
    assert gpus.limiter.totals() == {("r", 0): 1, ("r", 1): 1}
    rendezvous = Rendezvous(*gpus.contexts("m", 0), *gpus.contexts("m", 1))
    run_all(lambda number: answer(gpus.infer, "m", {"x": values(number)}), range(8))
    assert rendezvous.most == 2


def test_a_global_resource_lets_one_gpu_work_at_a_time(gpus):
    gpus.add("m", limited("global: true"))
    gpus.load("m")
    assert gpus.limiter.totals() == {("r", None): 1}
    rendezvous = Rendezvous(*gpus.contexts("m", 0), *gpus.contexts("m", 1), patience_s=0.002)

    def send(number):
        for step in range(20):
            wanted = number * 100 + step
            assert answer(gpus.infer, "m", {"x": values(wanted)})["y"][0, 0] == wanted

    run_all(send, range(8))
    assert rendezvous.most == 1
    gpus.repository.unload("m", waits=True)
    assert gpus.limiter.totals() == {}


def test_sequences_are_limited_on_each_gpu(gpus):
    gpus.add("m", limited("") + " sequence_batching { max_sequence_idle_microseconds: 60000000 }")
    gpus.load("m")

    def send(number):
        for step in range(20):
            told = SequenceStep(number + 1, step == 0, step == 19)
            found = answer(gpus.infer, "m", {"x": values(number * 100 + step)}, sequence=told)
            assert found["y"][0, 0] == number * 100 + step

    run_all(send, range(6))
    assert gpus.served("m").statistics().inference_stats.success.count == 120


# Watched


def test_pulses_name_the_gpu_of_a_lane_and_of_a_scheduler(gpus):
    gpus.add("m", BOTH)
    gpus.load("m")
    answer(gpus.infer, "m", {"x": values(1)})
    pulses = list(gpus.served("m").pulses(30.0))
    assert [pulse.part for pulse in pulses] == [
        "lane 1 of model m/1",
        "lane 1 of model m/1 on GPU 1",
        "the queue of model m/1",
    ]
    assert [sum(pulse.turns for pulse in pulses[:2]), pulses[2].turns] == [1, 1]
    assert all(pulse.is_idle for pulse in pulses)
    assert [pulse.part for pulse in gpus.further.pulses(30.0)] == ["the scheduler of GPU 1"]
