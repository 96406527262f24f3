"""Counts of one served version, in the Inference Server's terms."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import msgspec

from edgert.errors import CancelledError, EdgertError, RequestError, UnavailableError
from edgert.inference.samples import Histogram, Summaries
from edgert.serve.core import BatchStatistics, InferStatistics, ModelStatistics, ResponseStatistics
from edgert.serve.options import Metric
from edgert.serve.sampled import SampledStatistics

_UNSUMMED = 128  # batches or answers


class BatchTimes(msgspec.Struct, frozen=True, gc=False):
    """What a batch took, in nanoseconds."""

    started_mono_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


class Counts:
    """Adds up what requests and batches took. Any thread."""

    def __init__(self, model: str, version: int, metrics: Collection[Metric] = ()) -> None:
        """`metrics` are those of `[serve]`: what to keep beside the counts."""
        self._lock = threading.Lock()
        self._statistics = ModelStatistics(model, str(version))
        self._batches: dict[int, BatchStatistics] = {}
        self._ran: list[tuple[int, BatchTimes]] = []  # not yet in the sums
        self._answered: list[tuple[int, int, int, BatchTimes]] = []
        self._summaries = Summaries() if "summaries" in metrics else None
        self._first_response = Histogram() if "histograms" in metrics else None

    def batch(self, rows: int, times: BatchTimes) -> None:
        """Count a batch that ran."""
        with self._lock:
            self._statistics.last_inference = time.time_ns() // 1_000_000
            self._ran.append((rows, times))
            if len(self._ran) >= _UNSUMMED:
                self._sum_up()

    def answered(self, rows: int, arrived_mono_ns: int, times: BatchTimes) -> None:
        """Count a request that was answered just now."""
        took_ns, queue_ns = time.monotonic_ns() - arrived_mono_ns, times.started_mono_ns - arrived_mono_ns
        with self._lock:
            self._answered.append((rows, took_ns, queue_ns, times))
            if self._summaries is not None:
                self._summaries.requests.add(took_ns)
                self._summaries.batches.add(queue_ns, times.input_ns, times.infer_ns, times.output_ns)
            if len(self._answered) >= _UNSUMMED:
                self._sum_up()

    def failed(self, arrived_mono_ns: int, error: EdgertError) -> None:
        """Count a request that got an error."""
        reason = _reason(error)
        with self._lock:
            self._statistics.inference_stats.fail.add(time.monotonic_ns() - arrived_mono_ns)
            self._statistics.failures[reason] = self._statistics.failures.get(reason, 0) + 1

    def hit(self, arrived_mono_ns: int, lookup_ns: int) -> None:
        """Count a request that the cache answered."""
        with self._lock:
            sums = self._statistics.inference_stats
            took_ns = time.monotonic_ns() - arrived_mono_ns
            sums.success.add(took_ns)
            sums.cache_hit.add(lookup_ns)
            if self._summaries is not None:
                self._summaries.requests.add(took_ns)
                self._summaries.hits.add(lookup_ns)

    def missed(self, took_ns: int) -> None:
        """Count a request that the cache did not answer, and what it took to look and to keep the answer."""
        with self._lock:
            self._statistics.inference_stats.cache_miss.add(took_ns)
            if self._summaries is not None:
                self._summaries.misses.add(took_ns)

    def part(self, index: int, infer_ns: int, output_ns: int, arrived_mono_ns: int = 0) -> None:
        """Count the response of a decoupled model that came `index`-th, from 0, for its request.

        Without the time of the request's arrival it is in no histogram.
        """
        with self._lock:
            if index == 0 and arrived_mono_ns and self._first_response is not None:
                self._first_response.add(time.monotonic_ns() - arrived_mono_ns)
            response = self._response(index)
            response.compute_infer.add(infer_ns)
            response.compute_output.add(output_ns)
            response.success.add(infer_ns + output_ns)

    def empty_part(self, index: int) -> None:
        """Count a decoupled model's last response, which has no tensors."""
        with self._lock:
            self._response(index).empty_response.add(0)

    def snapshot(self, pending: int = 0, sequences: int = 0) -> ModelStatistics:
        """Return a copy; SampledStatistics where metrics beside the counts are kept."""
        with self._lock:
            self._sum_up()
            kept = msgspec.convert(msgspec.to_builtins(self._statistics), ModelStatistics)
            batches = msgspec.convert(
                msgspec.to_builtins([self._batches[size] for size in sorted(self._batches)]),
                list[BatchStatistics],
            )
            if self._summaries is not None or self._first_response is not None:
                kept = self._sampled(kept)
        kept.batch_stats = batches
        kept.pending, kept.sequences = pending, sequences
        return kept

    def _sum_up(self) -> None:
        """Add what was noted to the sums. Many at once cost less than each by itself."""
        ran, self._ran = self._ran, []
        answered, self._answered = self._answered, []
        self._statistics.execution_count += len(ran)
        for size in {rows for rows, _ in ran}:
            sums = self._batches.setdefault(size, BatchStatistics(size))
            _add(sums, [times for rows, times in ran if rows == size])
        if not answered:
            return
        rows, took_ns, queue_ns, times = zip(*answered, strict=True)
        self._statistics.inference_count += sum(rows)
        requests = self._statistics.inference_stats
        requests.success.add(sum(took_ns), len(answered))
        requests.queue.add(sum(queue_ns), len(answered))
        _add(requests, times)

    def _sampled(self, statistics: ModelStatistics) -> SampledStatistics:
        return SampledStatistics(
            **msgspec.structs.asdict(statistics),
            quantiles_ns=self._summaries.quantiles_ns() if self._summaries else None,
            first_response_ms=self._first_response.counts() if self._first_response else None,
        )

    def _response(self, index: int) -> ResponseStatistics:
        return self._statistics.response_stats.setdefault(str(index), ResponseStatistics())


def _add(sums: BatchStatistics | InferStatistics, batches: Sequence[BatchTimes]) -> None:
    sums.compute_input.add(sum([times.input_ns for times in batches]), len(batches))
    sums.compute_infer.add(sum([times.infer_ns for times in batches]), len(batches))
    sums.compute_output.add(sum([times.output_ns for times in batches]), len(batches))


def _reason(error: EdgertError) -> str:
    """Return the Inference Server's word for why a request failed."""
    if isinstance(error, CancelledError):
        return "CANCELED"
    if isinstance(error, UnavailableError):
        return "REJECTED"
    return "OTHER" if isinstance(error, RequestError) else "BACKEND"
