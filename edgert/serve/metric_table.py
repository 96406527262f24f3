"""Names and texts of the Inference Server's metrics, and where their values come from."""

from __future__ import annotations

import msgspec

_US = 1000  # nanoseconds in one


class Row(msgspec.Struct, frozen=True):
    """One family: its value is `field`, divided by `unit`."""

    name: str
    help: str
    field: str
    unit: int = 1


_CACHED = "in microseconds (includes cached requests)"
_NOT_CACHED = "in microseconds (does not include cached requests)"
_NUMBER = "Number of {} performed (does not include cached requests)"

# Fields are those of ModelStatistics.
SUCCESS = Row(
    "nv_inference_request_success",
    "Number of successful inference requests, all batch sizes",
    "inference_stats.success.count",
)
FAILURE = Row(
    "nv_inference_request_failure", "Number of failed inference requests, all batch sizes", "failures"
)
COUNTERS = (
    Row("nv_inference_count", _NUMBER.format("inferences"), "inference_count"),
    Row("nv_inference_exec_count", _NUMBER.format("model executions"), "execution_count"),
    Row(
        "nv_inference_request_duration_us",
        f"Cumulative inference request duration {_CACHED}",
        "inference_stats.success.ns",
        _US,
    ),
    Row(
        "nv_inference_queue_duration_us",
        f"Cumulative inference queuing duration {_CACHED}",
        "inference_stats.queue.ns",
        _US,
    ),
    Row(
        "nv_inference_compute_input_duration_us",
        f"Cumulative compute input duration {_NOT_CACHED}",
        "inference_stats.compute_input.ns",
        _US,
    ),
    Row(
        "nv_inference_compute_infer_duration_us",
        f"Cumulative compute inference duration {_NOT_CACHED}",
        "inference_stats.compute_infer.ns",
        _US,
    ),
    Row(
        "nv_inference_compute_output_duration_us",
        f"Cumulative inference compute output duration {_NOT_CACHED}",
        "inference_stats.compute_output.ns",
        _US,
    ),
)
PENDING = Row(
    "nv_inference_pending_request_count",
    "Instantaneous number of pending requests awaiting execution per-model.",
    "pending",
)
CACHE_COUNTERS = (  # of models with response_cache
    Row("nv_cache_num_hits_per_model", "Number of cache hits per model", "inference_stats.cache_hit.count"),
    Row(
        "nv_cache_hit_duration_per_model",
        "Total cache hit duration per model, in microseconds",
        "inference_stats.cache_hit.ns",
        _US,
    ),
    Row(
        "nv_cache_num_misses_per_model",
        "Number of cache misses per model",
        "inference_stats.cache_miss.count",
    ),
    Row(
        "nv_cache_miss_duration_per_model",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        "inference_stats.cache_miss.ns",
        _US,
    ),
)

# Fields are those of InferStatistics.
SUMMARIES = (
    Row("nv_inference_request_summary_us", f"Summary of inference request duration {_CACHED}", "success"),
    Row("nv_inference_queue_summary_us", f"Summary of inference queuing duration {_CACHED}", "queue"),
    Row(
        "nv_inference_compute_input_summary_us",
        f"Cumulative compute input duration {_NOT_CACHED}",
        "compute_input",
    ),
    Row(
        "nv_inference_compute_infer_summary_us",
        f"Cumulative compute inference duration {_NOT_CACHED}",
        "compute_infer",
    ),
    Row(
        "nv_inference_compute_output_summary_us",
        f"Cumulative inference compute output duration {_NOT_CACHED}",
        "compute_output",
    ),
)
CACHE_SUMMARIES = (
    Row(
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit counts/durations per model, in microseconds.",
        "cache_hit",
    ),
    Row(
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss counts/durations per model, in microseconds.",
        "cache_miss",
    ),
)
FIRST_RESPONSE = Row(
    "nv_inference_first_response_histogram_ms",
    "Duration from request to first response in milliseconds",
    "first_response_ms",
)

# Fields are those of the response cache's counts.
CACHE_GAUGES = (
    Row("nv_cache_num_entries", "Number of responses stored in response cache", "entries"),
    Row("nv_cache_num_hits", "Number of cache hits in response cache", "hits"),
    Row("nv_cache_num_misses", "Number of cache misses in response cache", "misses"),
    Row("nv_cache_num_lookups", "Number of cache lookups in response cache", "lookups"),
    Row("nv_cache_num_evictions", "Number of cache evictions in response cache", "evictions"),
    Row(
        "nv_cache_lookup_duration",
        "Total cache lookup duration (hit and miss), in microseconds",
        "lookup_ns",
        _US,
    ),
    Row(
        "nv_cache_insertion_duration", "Total cache insertion duration, in microseconds", "insertion_ns", _US
    ),
)
CACHE_USE = Row("nv_cache_util", "Cache utilization [0.0 - 1.0]", "used_bytes")
