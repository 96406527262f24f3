"""Who hangs, and who only has nothing to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgert.pipeline.progress import Hang, Progress, Pulse, model_pulses, pulses_of
from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S
from edgert.publish.sink import SinkPulse

S = 1_000_000_000


class Watch:
    """A Progress that is asked once a second."""

    def __init__(self, longest_step_s=2.0):
        self.now_ns = 10**15
        self._progress = Progress(longest_step_s)

    def look(self, *pulses, after_s=1.0):
        self.now_ns += int(after_s * S)
        return self._progress.look(pulses, self.now_ns)


def busy(turns=1, part="lane", limit_s=3.0):
    return Pulse(part, turns, is_idle=False, limit_s=limit_s)


def test_work_without_a_step_for_longer_than_the_limit_hangs():
    watch = Watch()
    assert [watch.look(busy()) for _ in range(4)] == [[]] * 4
    assert watch.look(busy()) == [Hang("lane", 4.0)]
    assert watch.look(busy()) == [Hang("lane", 5.0)]
    assert watch.look(busy(turns=2)) == []


def test_a_step_or_rest_begins_the_time_anew():
    watch = Watch()
    for turns in range(20):
        assert watch.look(busy(turns // 3)) == []
    idle = Pulse("lane", 7, is_idle=True, limit_s=3.0)
    assert [watch.look(idle) for _ in range(20)] == [[]] * 20
    assert [watch.look(busy(7)) for _ in range(3)] == [[]] * 3


def test_each_part_is_looked_at_for_itself():
    watch = Watch()
    for turns in range(6):
        hangs = watch.look(busy(turns, "a"), busy(1, "b", 4.0), busy(1, "c", 60.0))
    assert hangs == [Hang("b", 5.0)]


def test_a_part_that_was_away_begins_anew():
    watch = Watch()
    for _ in range(3):
        watch.look(busy())
    watch.look()
    assert [watch.look(busy()) for _ in range(4)] == [[]] * 4


def test_time_in_which_the_process_did_not_run_is_nobody_s_fault():
    watch = Watch(longest_step_s=2.0)
    watch.look(busy())
    assert watch.look(busy(), after_s=3600.0) == []
    assert watch.look(busy()) == []
    assert watch.look(busy()) == [Hang("lane", 4.0)]


class Model:
    """A LoadedModel, as far as its progress goes."""

    name, version = "coco", 3

    def __init__(self, *flights, usual_ms=0.0, waiting=0, delay_ms=0):
        self.batcher = SimpleNamespace(waiting=waiting)
        self.policy = SimpleNamespace(delay_ns=delay_ms * 1_000_000)
        self.usual_batch_ns = int(usual_ms * 1e6)
        self.submitted = sum(begun for begun, _ in flights)
        self._flights = [SimpleNamespace(begun=begun, ended=ended) for begun, ended in flights]

    def flights(self):
        return self._flights


def test_a_lane_is_idle_when_all_its_batches_have_ended():
    first, second, queue = model_pulses(Model((7, 7), (5, 4), usual_ms=10, waiting=2), 30.0)
    assert first == Pulse("lane 1 of model coco version 3", 7, is_idle=True, limit_s=30.0)
    assert second == Pulse("lane 2 of model coco version 3", 4, is_idle=False, limit_s=30.0)
    assert queue == Pulse("the queue of model coco version 3", 12, is_idle=False, limit_s=30.0)


@pytest.mark.parametrize(
    ("usual_ms", "hang_s", "limit_s"),
    [(10.0, 30.0, 30.0), (2000.0, 30.0, 100.0), (0.0, 30.0, WARM_UP_TIMEOUT_S), (0.0, 500.0, 500.0)],
)
def test_a_lane_may_take_many_usual_times_and_first_as_long_as_warming_up(usual_ms, hang_s, limit_s):
    lane, queue = model_pulses(Model((1, 0), usual_ms=usual_ms, delay_ms=1500), hang_s)
    assert (lane.limit_s, queue.limit_s) == (limit_s, limit_s + 1.5)
    assert queue.is_idle


def test_every_part_of_a_line_is_looked_at_and_the_scheduler_is_woken():
    woken = []
    pipeline = SimpleNamespace(
        scheduler=SimpleNamespace(turns=5, wake=lambda: woken.append(True)),
        turns=9,
        models=SimpleNamespace(loaded=lambda: [Model((1, 1))]),
    )
    source = SimpleNamespace(pulse=lambda name, limit_s: Pulse(f"source {name}", 4, True, limit_s))
    sink = SimpleNamespace(
        pulses=lambda: [SinkPulse("sink b", 3, True), SinkPulse("spool of sink b", 2, False)]
    )
    pulses = list(pulses_of(pipeline, {"door": source}, [sink], 30.0))
    assert [(pulse.part, pulse.turns, pulse.is_idle) for pulse in pulses] == [
        ("the scheduler", 5, False),
        ("decoding", 9, False),
        ("lane 1 of model coco version 3", 1, True),
        ("the queue of model coco version 3", 1, True),
        ("source door", 4, True),
        ("sink b", 3, True),
        ("spool of sink b", 2, False),
    ]
    assert woken
