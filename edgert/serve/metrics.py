"""The report as Prometheus metrics; names are the Inference Server's where they mean the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from edgert.device.gauges.gauge import Gauge
from edgert.serve.family import Family, gauge_families, write_families
from edgert.serve.inference_metrics import Served, frame_statistics, inference_families

CONTENT_TYPE = CONTENT_TYPE_LATEST
Report = dict[str, Any]


def render(report: Report, served: Served | None = None, gauges: Collection[Gauge] = ()) -> bytes:
    """Return the report in Prometheus's text format, with what was served and the machine's gauges."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReportCollector(report))
    return write_families(_server_families(report, served, gauges)) + generate_latest(registry)


def _server_families(report: Report, served: Served | None, gauges: Collection[Gauge]) -> Iterator[Family]:
    """Return what the Inference Server has too; Prometheus's client would end its counters with `_total`."""
    yield from inference_families(frame_statistics(report), served)
    yield from gauge_families(gauges)
    if served is not None:
        yield _refused(served)
    yield from _pinned(report["memory"], gauges)


def _refused(served: Served) -> Family:
    family = Family(
        "edgert_front_refused_total", "counter", "Requests and connections refused or given up by a front"
    )
    for front, reasons in served.refused.items():
        for reason, count in sorted(reasons.items()):
            family.add({"front": front, "reason": reason}, count)
    return family


def _pinned(memory: Report, gauges: Iterable[Gauge]) -> Iterator[Family]:
    """Return what is pinned. There is no pool: the memory budget is the bound, or the machine's memory."""
    if (used := memory.get("pinned_bytes")) is None:
        return
    ram = next((gauge.value for gauge in gauges if gauge.name == "nv_cpu_memory_total_bytes"), 0)
    values = {"total": max(memory["limit_bytes"] or ram, used), "used": used}
    for which, value in values.items():
        help_text = f"Pinned memory pool {which} memory size, in bytes"
        family = Family(f"nv_pinned_memory_pool_{which}_bytes", "gauge", help_text)
        family.add({}, value)
        yield family


class _ReportCollector(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        yield from _sources(self._report)
        yield from _links(self._report)
        yield from _sinks(self._report)
        yield from _spools(self._report)
        yield from _commands(self._report)
        yield from _process(self._report)


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
