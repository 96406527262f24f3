"""The report as Prometheus sees it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgert.serve.metrics import render
from tests.fakes.report import make_report


def samples(report):
    families = text_string_to_metric_families(render(report).decode())
    return {
        (
            sample.name.removesuffix("_total"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("nv_inference_request_success", "coco", "3"), 9),
        (("nv_inference_request_failure", "coco", "BACKEND", "3"), 1),
        (("nv_inference_request_failure", "coco", "REJECTED", "3"), 0),
        (("nv_inference_count", "coco", "3"), 9),
        (("nv_inference_exec_count", "coco", "3"), 4),
        (("nv_inference_queue_duration_us", "coco", "3"), 40_000),
        (("nv_inference_compute_input_duration_us", "coco", "3"), 1_000),
        (("nv_inference_compute_infer_duration_us", "coco", "3"), 20_000),
        (("nv_inference_compute_output_duration_us", "coco", "3"), 3_000),
        (("nv_inference_request_duration_us", "coco", "3"), 64_000),
        (("edgert_frames_captured", "door"), 14),
        (("edgert_frames_refused", "frame_error", "door"), 2),
        (("edgert_frames_lost", "gap", "door"), 3),
        (("edgert_source_online", "door"), 1),
        (("edgert_source_reconnects", "door"), 1),
        (("edgert_copies", "host_to_host", "door"), 14),
        (("edgert_copied_bytes", "host_to_host", "door"), 14_000),
        (("edgert_results_published", "coco", "door"), 9),
        (("edgert_frames_dropped", "coco", "stale", "door"), 2),
        (("edgert_latency_seconds_count", "coco", "door"), 9),
        (("edgert_latency_seconds_sum", "coco", "door"), 0.09),
        (("edgert_latency_quantile_seconds", "coco", "0.99", "door"), 0.003),
        (("edgert_sink_sent", "broker"), 8),
        (("edgert_sink_dropped", "queue_full", "broker"), 1),
        (("edgert_pss_bytes",), 50_000_000),
        (("edgert_buffer_bytes",), 1000),
        (("edgert_buffer_peak_bytes",), 2000),
        (("edgert_stage_cpu_seconds", "schedule"), 0.5),
    ],
)
def test_value(key, value):
    assert samples(make_report())[key] == pytest.approx(value)


def test_names_of_the_inference_server_are_exact_and_ours_are_prometheus_s():
    lines = render(make_report()).decode().splitlines()
    assert "# TYPE nv_inference_count counter" in lines
    assert 'nv_inference_count{model="coco",version="3"} 9' in lines
    assert "# TYPE edgert_frames_captured_total counter" in lines


def test_every_metric_has_help_and_nothing_is_there_twice():
    lines = render(make_report()).decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(set(names)) == len(names)
    assert [line for line in lines if line.startswith("# HELP") and len(line.split()) < 4] == []


def test_names_with_quotes_and_newlines_cannot_break_the_text():
    odd = 'a"b\\c\nd'
    report = make_report()
    report["sources"] = {odd: report["sources"]["door"]}
    assert samples(report)["edgert_frames_captured", odd] == 14


def test_report_of_a_service_that_has_only_begun():
    empty = make_report(sources={}, models={}, sinks={}, stage_cpu_s={})
    assert samples(empty)[("edgert_pss_bytes",)] == 50_000_000
