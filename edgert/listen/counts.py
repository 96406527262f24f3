"""What is counted of the results that one model gives for one source of one node."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

import msgspec

from edgert.listen.payloads import Findings, HeardResult, findings_of
from edgert.listen.sequence import Place, Sequence
from edgert.stats import Latency, LatencySummary

WINDOW_S = 5.0  # rate and live percentiles are of these last seconds
MOST_RECENT = 4096  # results in that window that are kept
MOST_BOOTS = 4  # whose numbers are followed at once: a spool may still bring those of an earlier start


class Instant(NamedTuple):
    """One moment on both clocks: one to measure with, one to show."""

    mono_ns: int
    utc_ns: int


class Live(NamedTuple):
    """The last `WINDOW_S` seconds. A percentile is None where no live result came."""

    rate_per_s: float
    p50_ms: float | None
    p99_ms: float | None


class Recent:
    """Results of the last seconds, at most `MOST_RECENT`."""

    def __init__(self, started_ns: int) -> None:
        self._started_ns = started_ns
        self._heard: deque[tuple[int, float | None]] = deque(maxlen=MOST_RECENT)

    def add(self, now_ns: int, latency_ms: float | None) -> None:
        """Note a result; without a latency it counts for the rate only."""
        self._heard.append((now_ns, latency_ms))

    def live(self, now_ns: int) -> Live:
        """Return rate and percentiles (nearest rank), and forget what is older."""
        was_full = len(self._heard) == MOST_RECENT
        since_ns = now_ns - int(WINDOW_S * 1e9)
        while self._heard and self._heard[0][0] < since_ns:
            was_full = False
            self._heard.popleft()
        begin_ns = max(since_ns, self._heard[0][0] if was_full else self._started_ns)
        shortest_s = 0.001 if was_full else 1.0  # one result in the first millisecond is no thousand a second
        rate_per_s = len(self._heard) / max((now_ns - begin_ns) / 1e9, shortest_s)
        kept = sorted(ms for _, ms in self._heard if ms is not None)
        if not kept:
            return Live(rate_per_s, None, None)
        p50_ms, p99_ms = (kept[int(q * (len(kept) - 1) + 0.5)] for q in (0.50, 0.99))
        return Live(rate_per_s, p50_ms, p99_ms)


class Totals(msgspec.Struct):
    """Since listening began. `results` are all of the others, but the last two, too."""

    results: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    historical: int = 0
    missing: int = 0  # numbers not heard between others: frames dropped before the model, or results lost
    unheard: int = 0  # numbers that passed while we were not connected, and did not come later


class ResultCounts:
    """Counts, window and last findings. Its memory is bounded, however long it runs."""

    def __init__(self, now: Instant) -> None:
        self.totals = Totals()
        self.findings = Findings()
        self.last_heard = now
        self._recent = Recent(now.mono_ns)
        self._latency = Latency()
        self._boots: OrderedDict[str, Sequence] = OrderedDict()

    def add(self, result: HeardResult, now: Instant) -> Place:
        """Count one result and say how it stands to those before."""
        totals = self.totals
        totals.results += 1
        totals.historical += result.historical
        place = self._hear(result)
        if place == "duplicate":
            totals.duplicates += 1
            return place
        totals.out_of_order += place == "late"
        self.last_heard = now
        if not result.historical:
            self._latency.add(round(result.latency_ms * 1e6))
            if place == "next":
                self.findings = findings_of(result)
        self._recent.add(now.mono_ns, None if result.historical else result.latency_ms)
        return place

    def skip(self) -> None:
        """We were not connected: the next gap is ours."""
        for sequence in self._boots.values():
            sequence.skip()

    def live(self, now: Instant) -> Live:
        """Return what the last seconds were like."""
        return self._recent.live(now.mono_ns)

    def latency(self) -> LatencySummary:
        """Return the latencies of all live results; percentiles are of the newest 4096."""
        return self._latency.summary()

    def _hear(self, result: HeardResult) -> Place:
        sequence = self._boots.get(result.boot)
        if sequence is None:
            sequence = self._boots[result.boot] = Sequence()
        self._boots.move_to_end(result.boot)
        if len(self._boots) > MOST_BOOTS:
            self._boots.popitem(last=False)
        missing, unheard = sequence.missing, sequence.unheard
        place = sequence.hear(result.seq)
        self.totals.missing += sequence.missing - missing
        self.totals.unheard += sequence.unheard - unheard
        return place
