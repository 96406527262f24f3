"""Rates, percentiles and totals of one (node, source, model)."""

from __future__ import annotations

import pytest

from edgert.listen import counts
from edgert.listen.counts import Live, Recent, ResultCounts
from tests.unit.listen.heard import at, label, result


def fed(results, every_s=0.1):
    """Return counts with these results, one after the other, and the last moment."""
    found = ResultCounts(at(0))
    moment = at(0)
    for index, one in enumerate(results):
        moment = at(index * every_s)
        found.add(one, moment)
    return found, moment


def test_rate_and_percentiles_are_of_the_last_seconds():
    found, _ = fed([result(n, latency_ms=float(n)) for n in range(200)])  # for 20 s
    live = found.live(at(20))
    assert live.rate_per_s == pytest.approx(10)
    assert (live.p50_ms, live.p99_ms) == (175.0, 199.0)
    assert found.live(at(60)) == Live(0.0, None, None)


def test_the_first_result_is_not_a_thousand_a_second():
    found, moment = fed([result(0)])
    assert found.live(moment).rate_per_s == 1.0


def test_a_rate_above_the_kept_results_is_measured_over_those(monkeypatch):
    monkeypatch.setattr(counts, "MOST_RECENT", 100)
    recent = Recent(0)
    for index in range(1000):
        recent.add(index * 1_000_000, 1.0)
    assert recent.live(1_000_000_000).rate_per_s == pytest.approx(1000)


def test_latency_in_all_is_of_live_results():
    found, _ = fed([result(0, latency_ms=4.0), result(1, latency_ms=1e6, historical=True)])
    summary = found.latency()
    assert (summary.count, summary.max_ms) == (1, 4.0)
    assert found.live(at(0.1)).p99_ms == 4.0
    assert found.totals.historical == 1


def test_duplicates_count_as_nothing_else():
    found, moment = fed([result(0), result(1), result(1, latency_ms=99.0), result(0)])
    assert (found.totals.results, found.totals.duplicates, found.totals.out_of_order) == (4, 2, 0)
    assert found.latency().count == 2
    assert found.live(moment).rate_per_s == 2.0


def test_missing_is_taken_back_when_it_comes_late():
    found, _ = fed([result(0), result(3)])
    assert found.totals.missing == 2
    found.add(result(1), at(1))
    assert (found.totals.missing, found.totals.out_of_order) == (1, 1)


def test_what_passed_while_we_were_away_is_not_missing():
    found, _ = fed([result(0), result(1)])
    found.skip()
    found.add(result(6), at(1))
    found.add(result(8), at(1))
    found.add(result(3, historical=True), at(1))
    assert (found.totals.unheard, found.totals.missing) == (3, 1)


def test_numbers_of_another_boot_begin_anew():
    found, _ = fed([result(100), result(0, boot="b2"), result(101), result(1, boot="b2")])
    totals = found.totals
    assert (totals.missing, totals.duplicates, totals.out_of_order) == (0, 0, 0)


def test_boots_are_bounded_and_the_newest_are_kept():
    found, _ = fed([result(0, boot=str(number)) for number in range(100)])
    assert len(found._boots) == counts.MOST_BOOTS
    found.add(result(0, boot="99"), at(1))
    assert found.totals.duplicates == 1


def test_findings_are_of_the_newest_live_result():
    cat, dog = {"classes": [label("cat", 0.5)]}, {"classes": [label("dog", 0.5)]}
    found, _ = fed([result(5, **cat), result(4, **dog), result(6, historical=True, **dog)])
    assert found.findings.counts == (("cat", 1),)


def test_memory_of_the_window_is_bounded():
    recent = Recent(0)
    for index in range(3 * counts.MOST_RECENT):
        recent.add(index, 1.0)
    assert len(recent._heard) == counts.MOST_RECENT
