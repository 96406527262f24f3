"""Counts of one served version, in the Inference Server's terms."""

from __future__ import annotations

import threading
import time

import msgspec

from edgert.errors import CancelledError, EdgertError, RequestError, UnavailableError
from edgert.serve.core import BatchStatistics, ModelStatistics, ResponseStatistics


class BatchTimes(msgspec.Struct, frozen=True, gc=False):
    """What a batch took, in nanoseconds."""

    started_mono_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


class Counts:
    """Adds up what requests and batches took. Any thread."""

    def __init__(self, model: str, version: int) -> None:
        self._lock = threading.Lock()
        self._statistics = ModelStatistics(model, str(version))
        self._batches: dict[int, BatchStatistics] = {}

    def batch(self, rows: int, times: BatchTimes) -> None:
        """Count a batch that ran."""
        with self._lock:
            self._statistics.execution_count += 1
            self._statistics.last_inference = time.time_ns() // 1_000_000
            size = self._batches.get(rows)
            if size is None:
                size = self._batches[rows] = BatchStatistics(rows)
            size.compute_input.add(times.input_ns)
            size.compute_infer.add(times.infer_ns)
            size.compute_output.add(times.output_ns)

    def answered(self, rows: int, arrived_mono_ns: int, times: BatchTimes) -> None:
        """Count a request that was answered just now."""
        with self._lock:
            self._statistics.inference_count += rows
            sums = self._statistics.inference_stats
            sums.success.add(time.monotonic_ns() - arrived_mono_ns)
            sums.queue.add(times.started_mono_ns - arrived_mono_ns)
            sums.compute_input.add(times.input_ns)
            sums.compute_infer.add(times.infer_ns)
            sums.compute_output.add(times.output_ns)

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
            sums.success.add(time.monotonic_ns() - arrived_mono_ns)
            sums.cache_hit.add(lookup_ns)

    def missed(self, took_ns: int) -> None:
        """Count a request that the cache did not answer, and what it took to look and to keep the answer."""
        with self._lock:
            self._statistics.inference_stats.cache_miss.add(took_ns)

    def part(self, index: int, infer_ns: int, output_ns: int) -> None:
        """Count the response of a decoupled model that came `index`-th for its request."""
        with self._lock:
            response = self._response(index)
            response.compute_infer.add(infer_ns)
            response.compute_output.add(output_ns)
            response.success.add(infer_ns + output_ns)

    def empty_part(self, index: int) -> None:
        """Count a decoupled model's last response, which has no tensors."""
        with self._lock:
            self._response(index).empty_response.add(0)

    def snapshot(self, pending: int = 0, sequences: int = 0) -> ModelStatistics:
        """Return a copy."""
        with self._lock:
            kept = msgspec.convert(msgspec.to_builtins(self._statistics), ModelStatistics)
            batches = msgspec.convert(
                msgspec.to_builtins([self._batches[size] for size in sorted(self._batches)]),
                list[BatchStatistics],
            )
        kept.batch_stats = batches
        kept.pending, kept.sequences = pending, sequences
        return kept

    def _response(self, index: int) -> ResponseStatistics:
        return self._statistics.response_stats.setdefault(str(index), ResponseStatistics())


def _reason(error: EdgertError) -> str:
    """Return the Inference Server's word for why a request failed."""
    if isinstance(error, CancelledError):
        return "CANCELED"
    if isinstance(error, UnavailableError):
        return "REJECTED"
    return "OTHER" if isinstance(error, RequestError) else "BACKEND"
