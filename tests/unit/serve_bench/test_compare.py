"""Rounds, ratios and verdicts."""

import pytest

from tests.serve_bench.compare import at_least, at_most, in_turns, middle, not_compared, ratio_of
from tests.serve_bench.identity import _rows
from tests.serve_bench.load import Load, together
from tests.serve_bench.memory import Memory
from tests.serve_bench.ssd import Images, rows
from tests.serve_bench.start import Start, start_rows


def load(per_s, p99_ms=2.0, *, failed=0):
    return Load(100, per_s, 1.0, p99_ms, {"200": 100}, failed, {"503: busy": failed} if failed else {})


def test_contenders_take_turns_and_the_order_is_turned_round():
    order = []
    ways = {name: lambda name=name: order.append(name) or len(order) for name in ("a", "b")}
    assert in_turns(ways, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_a_ratio_is_the_median_of_the_rounds_not_of_the_rates():
    ratio = ratio_of([10, 40, 90], [10, 20, 100])
    assert (ratio.median, ratio.least, ratio.most) == (1.0, 0.9, 2.0)
    assert str(ratio) == "1.00 (0.90 to 2.00)"


def test_nothing_against_nothing_is_no_success():
    assert ratio_of([1.0], [0.0]).median == 0.0
    assert not at_least("rate", ratio_of([0.0], [0.0]), 0.9, "", {}).is_met
    assert not at_most("time", ratio_of([0.0], [1.0]), 1.0, "", {}).is_met


@pytest.mark.parametrize(("ours", "is_met"), [(89, False), (90, True), (120, True)])
def test_a_rate_is_met_from_the_limit_upwards(ours, is_met):
    row = at_least("rate", ratio_of([ours], [100]), 0.9, "more", {})
    assert (row.is_met, row.limit) == (is_met, ">= 0.90")


@pytest.mark.parametrize(("ours", "is_met"), [(1.16, False), (1.15, True), (0.5, True)])
def test_a_cost_is_met_up_to_the_limit(ours, is_met):
    assert at_most("cost", ratio_of([ours], [1.0]), 1.15, "", {}).is_met is is_met


def test_what_has_no_peer_says_so_and_is_no_failure():
    row = not_compared("rate against tritonserver")
    assert (row.is_met, row.limit) == (True, "")
    assert "--tritonserver" in row.value
    assert middle([]) == 0.0


def test_requests_that_failed_make_a_rate_of_nothing():
    measured = {
        "edgert": [load(100.0), load(100.0, failed=3), load(100.0, failed=1)],
        "edgert, Python": [load(50.0)] * 3,
        "tritonserver": [load(80.0)] * 3,
    }
    rate, late, python = _rows("identity", measured, 1.0, {})
    assert not rate.is_met
    assert "4 FAILED" in rate.value
    assert late.is_met
    assert (python.limit, python.value[:4]) == ("", "0.62")


def test_without_tritonserver_the_rates_are_told():
    told, missing = _rows("identity", {"edgert": [load(100.0)], "edgert, Python": [load(50.0)]}, 1.0, {})
    assert (told.value, told.limit) == ("100; with a model in Python 50", "")
    assert missing.value.startswith("not compared")


def test_images_are_compared_with_the_bare_loop_of_the_same_round():
    measured = {
        "bare": [Images(100.0, 10.0), Images(50.0, 10.0), Images(100.0, 10.0)],
        "HTTP": [Images(91.0, 11.0), Images(46.0, 12.0), Images(95.0, 11.0)],
        "gRPC": [Images(80.0, 11.0), Images(40.0, 11.0), Images(80.0, 11.0)],
    }
    rate, cpu, grpc, shared, peer = rows("SSD", measured)
    assert (rate.value[:4], rate.is_met) == ("0.92", True)
    assert (cpu.value[:4], cpu.is_met) == ("1.10", True)
    assert (grpc.value[:4], grpc.limit) == ("0.80", "")
    assert all(row.value.startswith("not compared") for row in (shared, peer))


def test_starts_are_judged_for_both_models():
    starts = {
        "model in Python": [Start(0.5, Memory(60_000_000, 50_000_000))],
        "ONNX model": [Start(0.9, Memory(40_000_000, 30_000_000))],
        "tritonserver": [Start(1.0, Memory(80_000_000, 70_000_000))],
    }
    verdicts = {row.figure.partition(", against")[0]: row.is_met for row in start_rows(starts)}
    assert verdicts == {
        "identity, model in Python: start to ready": True,
        "identity, model in Python: PSS at start": False,
        "identity, ONNX model: start to ready": False,
        "identity, ONNX model: PSS at start": True,
    }


def test_loads_side_by_side_are_one():
    one = together([load(100.0, 1.0), load(50.0, 3.0, failed=2)])
    assert (one.answers, one.per_s, one.p99_ms, one.failed) == (200, 150.0, 3.0, 2)
    assert (one.statuses, one.failures) == ({"200": 200}, {"503: busy": 2})
