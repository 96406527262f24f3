"""The report as Prometheus metrics; names are the Inference Server's where they mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
Report = dict[str, Any]

_MODEL_DURATIONS = {  # the Inference Server's metric: our name; each frame has its batch's whole time
    "nv_inference_queue_duration_us": "queue",
    "nv_inference_compute_input_duration_us": "prepare",
    "nv_inference_compute_infer_duration_us": "execute",
    "nv_inference_compute_output_duration_us": "decode",
}


# Prometheus's client appends `_total` to every counter; the Inference Server's have no such end.
_TOTAL = re.compile(rb"(?m)^((?:# (?:HELP|TYPE) )?nv_inference_\w+?)_total\b")


def render(report: Report) -> bytes:
    """Return the report in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReportCollector(report))
    return _TOTAL.sub(rb"\1", generate_latest(registry))


class _ReportCollector(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        yield from _models(self._report)
        yield from _sources(self._report)
        yield from _links(self._report)
        yield from _sinks(self._report)
        yield from _spools(self._report)
        yield from _commands(self._report)
        yield from _process(self._report)


def _models(report: Report) -> Iterator[Metric]:
    labels = ["model", "version"]
    success = CounterMetricFamily("nv_inference_request_success", "Frames answered", labels=labels)
    failure = CounterMetricFamily("nv_inference_request_failure", "Frames failed", labels=labels)
    batches = CounterMetricFamily("nv_inference_exec_count", "Batches run", labels=labels)
    inferences = CounterMetricFamily("nv_inference_count", "Frames inferred", labels=labels)
    requests = CounterMetricFamily("nv_inference_request_duration_us", "Total time of frames", labels=labels)
    durations = {
        name: CounterMetricFamily(name, f"Total time in {part}", labels=labels)
        for name, part in _MODEL_DURATIONS.items()
    }
    for name, model in report["models"].items():
        for version in model["versions"]:
            key = [name, str(version["version"])]
            success.add_metric(key, version["frames"] - version["failed"])
            failure.add_metric(key, version["failed"])
            batches.add_metric(key, version["batches"])
            inferences.add_metric(key, version["frames"] - version["failed"])
            parts_us = _durations_us(version)
            requests.add_metric(key, sum(parts_us.values()))
            for metric, part in _MODEL_DURATIONS.items():
                durations[metric].add_metric(key, parts_us[part])
    yield from (success, failure, batches, inferences, requests, *durations.values())


def _durations_us(version: Report) -> dict[str, float]:
    of_frames = {part: version["frame_times"][f"{part}_ms"] for part in ("prepare", "execute", "decode")}
    return {part: ms * 1000 for part, ms in ({"queue": version["queue"]["sum_ms"]} | of_frames).items()}


def _sources(report: Report) -> Iterator[Metric]:
    captured = CounterMetricFamily("edgert_frames_captured", "Frames captured", labels=["source"])
    refused = CounterMetricFamily("edgert_frames_refused", "Frames not admitted", labels=["source", "reason"])
    lost = CounterMetricFamily("edgert_frames_lost", "Never arrived or answered", labels=["source", "reason"])
    online = GaugeMetricFamily("edgert_source_online", "1 while frames arrive", labels=["source"])
    reconnects = CounterMetricFamily("edgert_source_reconnects", "Connections lost", labels=["source"])
    copies = CounterMetricFamily("edgert_copies", "Copies of pixels", labels=["source", "kind"])
    copied = CounterMetricFamily("edgert_copied_bytes", "Bytes of these copies", labels=["source", "kind"])
    for name, source in report["sources"].items():
        captured.add_metric([name], source["frames"])
        online.add_metric([name], source["state"] == "online")
        reconnects.add_metric([name], source["reconnects"])
        for reason, count in source["refused"].items():
            refused.add_metric([name, reason], count)
        for reason, count in source["lost"].items():
            lost.add_metric([name, reason], count)
        for kind, count in source["copies"].items():
            copies.add_metric([name, kind], count["copies"])
            copied.add_metric([name, kind], count["bytes"])
    yield from (captured, refused, lost, online, reconnects, copies, copied)


def _links(report: Report) -> Iterator[Metric]:
    labels = ["source", "model"]
    published = CounterMetricFamily("edgert_results_published", "Results handed to the sinks", labels=labels)
    dropped = CounterMetricFamily(
        "edgert_frames_dropped", "Frames without a result", labels=[*labels, "reason"]
    )
    latency = SummaryMetricFamily("edgert_latency_seconds", "Captured to handed to the sinks", labels=labels)
    quantile = GaugeMetricFamily(
        "edgert_latency_quantile_seconds", "Of recent frames", labels=[*labels, "quantile"]
    )
    for name, source in report["sources"].items():
        for model, link in source["models"].items():
            key, took = [name, model], link["latency"]
            published.add_metric(key, link["published"])
            latency.add_metric(key, took["count"], took["sum_ms"] / 1000)
            quantile.add_metric([*key, "0.5"], took["p50_ms"] / 1000)
            quantile.add_metric([*key, "0.99"], took["p99_ms"] / 1000)
            for reason, count in link["dropped"].items():
                dropped.add_metric([*key, reason], count)
    yield from (published, dropped, latency, quantile)


def _spools(report: Report) -> Iterator[Metric]:
    results = GaugeMetricFamily("edgert_spool_results", "Results that wait on disk", labels=["sink"])
    size = GaugeMetricFamily("edgert_spool_bytes", "Their size", labels=["sink"])
    dropped = CounterMetricFamily("edgert_spool_dropped", "Results the disk lost", labels=["sink", "reason"])
    for name, sink in report["sinks"].items():
        if (spool := sink["spool"]) is None:
            continue
        results.add_metric([name], spool["results"])
        size.add_metric([name], spool["bytes"])
        for reason, count in spool["dropped"].items():
            dropped.add_metric([name, reason], count)
    yield from (results, size, dropped)


def _commands(report: Report) -> Iterator[Metric]:
    commands = CounterMetricFamily("edgert_commands", "Commands by what became of them", labels=["status"])
    for status, count in report["commands"].items():
        commands.add_metric([status], count)
    yield commands


def _sinks(report: Report) -> Iterator[Metric]:
    sent = CounterMetricFamily("edgert_sink_sent", "Results written or handed to the broker", labels=["sink"])
    dropped = CounterMetricFamily("edgert_sink_dropped", "Results given up", labels=["sink", "reason"])
    for name, sink in report["sinks"].items():
        sent.add_metric([name], sink["sent"])
        for reason, count in sink["dropped"].items():
            dropped.add_metric([name, reason], count)
    yield from (sent, dropped)


def _process(report: Report) -> Iterator[Metric]:
    yield GaugeMetricFamily("edgert_pss_bytes", "Proportional set size", value=report["pss_bytes"])
    memory = report["memory"]
    yield GaugeMetricFamily("edgert_buffer_bytes", "Slots, tensors, engines", value=memory["used_bytes"])
    yield GaugeMetricFamily("edgert_buffer_peak_bytes", "Their peak", value=memory["peak_bytes"])
    held = GaugeMetricFamily("edgert_held_bytes", "Memory by who holds it", labels=["owner"])
    for owner, size in memory["owners"].items():
        held.add_metric([owner], size)
    yield held
    copies = CounterMetricFamily("edgert_device_copies", "Copies to and from the device", labels=["kind"])
    copied = CounterMetricFamily("edgert_device_copied_bytes", "Bytes of these copies", labels=["kind"])
    for kind, count in report["device_copies"].items():
        copies.add_metric([kind], count["copies"])
        copied.add_metric([kind], count["bytes"])
    yield from (copies, copied)
    help_text = "CPU time of the threads that live, by stage"  # falls when a model's lanes end
    seconds = GaugeMetricFamily("edgert_stage_cpu_seconds", help_text, labels=["stage"])
    for stage, value in report["stage_cpu_s"].items():
        seconds.add_metric([stage], value)
    yield seconds
