"""What tritonserver 2.51.0 answered to `GET /metrics`, its values left out.

Three models of the python backend: `plain` with metric_tags `team` and `a_first`, `cached` with
response_cache, `dec` decoupled; started with a local cache and summary_latencies. Its summary of requests
has no sample for `cached`. GPU metrics are not in it: the machine had none.
"""

from __future__ import annotations

# Name, type, help; what stands behind the name of each sample, with its labels.
FAMILIES = [
    (
        "nv_inference_request_success",
        "counter",
        "Number of successful inference requests, all batch sizes",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_request_failure",
        "counter",
        "Number of failed inference requests, all batch sizes",
        [("", "_a_first _team model reason version"), ("", "model reason version")],
    ),
    (
        "nv_inference_count",
        "counter",
        "Number of inferences performed (does not include cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_exec_count",
        "counter",
        "Number of model executions performed (does not include cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_queue_duration_us",
        "counter",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_compute_input_duration_us",
        "counter",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_inference_compute_output_duration_us",
        "counter",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    ("nv_cache_num_hits_per_model", "counter", "Number of cache hits per model", [("", "model version")]),
    (
        "nv_cache_hit_duration_per_model",
        "counter",
        "Total cache hit duration per model, in microseconds",
        [("", "model version")],
    ),
    ("nv_cache_num_misses_per_model", "counter", "Number of cache misses per model", [("", "model version")]),
    (
        "nv_cache_miss_duration_per_model",
        "counter",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        [("", "model version")],
    ),
    (
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
        [("", "_a_first _team model version"), ("", "model version")],
    ),
    (
        "nv_pinned_memory_pool_total_bytes",
        "gauge",
        "Pinned memory pool total memory size, in bytes",
        [("", "")],
    ),
    (
        "nv_pinned_memory_pool_used_bytes",
        "gauge",
        "Pinned memory pool used memory size, in bytes",
        [("", "")],
    ),
    ("nv_cpu_utilization", "gauge", "CPU utilization rate [0.0 - 1.0]", [("", "")]),
    ("nv_cpu_memory_total_bytes", "gauge", "CPU total memory (RAM), in bytes", [("", "")]),
    ("nv_cpu_memory_used_bytes", "gauge", "CPU used memory (RAM), in bytes", [("", "")]),
    ("nv_cache_util", "gauge", "Cache utilization [0.0 - 1.0]", [("", "")]),
    ("nv_cache_num_entries", "gauge", "Number of responses stored in response cache", [("", "")]),
    ("nv_cache_num_hits", "gauge", "Number of cache hits in response cache", [("", "")]),
    ("nv_cache_num_misses", "gauge", "Number of cache misses in response cache", [("", "")]),
    ("nv_cache_num_lookups", "gauge", "Number of cache lookups in response cache", [("", "")]),
    ("nv_cache_num_evictions", "gauge", "Number of cache evictions in response cache", [("", "")]),
    (
        "nv_cache_lookup_duration",
        "gauge",
        "Total cache lookup duration (hit and miss), in microseconds",
        [("", "")],
    ),
    ("nv_cache_insertion_duration", "gauge", "Total cache insertion duration, in microseconds", [("", "")]),
    (
        "nv_inference_request_summary_us",
        "summary",
        "Summary of inference request duration in microseconds (includes cached requests)",
        [
            ("", "_a_first _team model quantile version"),
            ("", "model quantile version"),
            ("_count", "_a_first _team model version"),
            ("_count", "model version"),
            ("_sum", "_a_first _team model version"),
            ("_sum", "model version"),
        ],
    ),
    (
        "nv_inference_queue_summary_us",
        "summary",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        [
            ("", "_a_first _team model quantile version"),
            ("", "model quantile version"),
            ("_count", "_a_first _team model version"),
            ("_count", "model version"),
            ("_sum", "_a_first _team model version"),
            ("_sum", "model version"),
        ],
    ),
    (
        "nv_inference_compute_input_summary_us",
        "summary",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        [
            ("", "_a_first _team model quantile version"),
            ("", "model quantile version"),
            ("_count", "_a_first _team model version"),
            ("_count", "model version"),
            ("_sum", "_a_first _team model version"),
            ("_sum", "model version"),
        ],
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "summary",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        [
            ("", "_a_first _team model quantile version"),
            ("", "model quantile version"),
            ("_count", "_a_first _team model version"),
            ("_count", "model version"),
            ("_sum", "_a_first _team model version"),
            ("_sum", "model version"),
        ],
    ),
    (
        "nv_inference_compute_output_summary_us",
        "summary",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        [
            ("", "_a_first _team model quantile version"),
            ("", "model quantile version"),
            ("_count", "_a_first _team model version"),
            ("_count", "model version"),
            ("_sum", "_a_first _team model version"),
            ("_sum", "model version"),
        ],
    ),
    (
        "nv_cache_hit_summary_per_model",
        "summary",
        "Summary of cache hit counts/durations per model, in microseconds.",
        [("", "model quantile version"), ("_count", "model version"), ("_sum", "model version")],
    ),
    (
        "nv_cache_miss_summary_per_model",
        "summary",
        "Summary of cache miss counts/durations per model, in microseconds.",
        [("", "model quantile version"), ("_count", "model version"), ("_sum", "model version")],
    ),
]
