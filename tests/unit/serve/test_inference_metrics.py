"""What was served, as the Inference Server's own page shows it."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgert.device.gauges.gauge import Gauge
from edgert.errors import CancelledError, RequestError, UnavailableError, UnknownModelError
from edgert.frames.request import InferRequest
from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.response_cache import ResponseCache
from edgert.models.model_config import ModelConfig
from edgert.serve.inference_metrics import Served, look
from edgert.serve.metrics import render
from tests.fakes.core import FakeCore
from tests.fakes.report import make_report
from tests.unit.serve.inference_server_page import FAMILIES

CONFIGS = {
    ("plain", "1"): ModelConfig(name="plain", metric_tags={"team": "cam", "a_first": "x"}),
    ("cached", "1"): ModelConfig(name="cached", uses_response_cache=True),
    ("dec", "1"): ModelConfig(name="dec", is_decoupled=True),
}
TIMES = BatchTimes(started_mono_ns=2_000, input_ns=3_000, infer_ns=4_000, output_ns=5_000)
NO_FRAMES = make_report(models={})


def counted(name, metrics=(), answered=2):
    counts = Counts(name, 1, metrics)
    for _ in range(answered):
        counts.batch(2, TIMES)
        counts.answered(2, 0, TIMES)
    return counts


def served(metrics=(), cache=None):
    """Return what a server with the models of the Inference Server's page has done."""
    counts = {name: counted(name, metrics) for name, _ in CONFIGS}
    counts["cached"].hit(0, 7_000)
    counts["cached"].missed(9_000)
    counts["dec"].part(0, 1_000, 0, 1)
    return Served([of_one.snapshot(pending=3) for of_one in counts.values()], CONFIGS, cache)


def families(page):
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def values(page, name, **labels):
    """Return the values of a family's samples with these labels, by all labels' values."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in families(page)[name].samples
        if labels.items() <= sample.labels.items()
    }


def a_cache():
    cache = ResponseCache(1 << 20)
    request = InferRequest(model="cached", inputs={}, responder=None)
    assert cache.look_up(request, 1).answer is None
    return cache.statistics()


# Beside the real server's page.


@pytest.fixture(scope="module")
def full_page():
    gauges = [Gauge(name, 1.0) for name in HOST_GAUGES]
    report = make_report(models={})
    report["memory"]["pinned_bytes"] = 100
    return render(report, served(("summaries", "histograms"), a_cache()), gauges)


HOST_GAUGES = ("nv_cpu_utilization", "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes")


@pytest.mark.parametrize(("name", "kind", "text", "samples"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_family_is_as_the_inference_server_has_it(full_page, name, kind, text, samples):
    ours = families(full_page)[name]
    assert (ours.type, ours.documentation) == (kind, text)
    shown = {
        (sample.name.removeprefix(name).removesuffix("_total"), " ".join(sorted(sample.labels)))
        for sample in ours.samples
    }
    assert {(suffix, labels) for suffix, labels in samples} <= shown


def test_no_family_and_no_sample_is_there_twice(full_page):
    lines = full_page.decode().splitlines()
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(set(heads)) == len(heads)
    assert len(set(series)) == len(series)


def test_counters_end_as_the_inference_server_s(full_page):
    lines = full_page.decode().splitlines()
    assert [line for line in lines if "nv_" in line.split()[0] and "_total{" in line] == []
    assert "# TYPE nv_cache_num_hits_per_model counter" in lines
    assert 'nv_cache_num_hits_per_model{model="cached",version="1"} 1' in lines


# Values.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nv_inference_request_success", 2),
        ("nv_inference_count", 4),
        ("nv_inference_exec_count", 2),
        ("nv_inference_queue_duration_us", 4),
        ("nv_inference_compute_input_duration_us", 6),
        ("nv_inference_compute_infer_duration_us", 8),
        ("nv_inference_compute_output_duration_us", 10),
        ("nv_inference_pending_request_count", 3),
    ],
)
def test_value(name, value):
    page = render(NO_FRAMES, served())
    assert values(page, name, model="plain") == {("x", "cam", "plain", "1"): value}


def test_failures_by_reason_all_of_them_also_where_there_were_none():
    counts = Counts("plain", 1)
    for error in (
        UnavailableError("full"),
        CancelledError("gone"),
        RequestError("shape"),
        RequestError("name"),
    ):
        counts.failed(0, error)
    page = render(NO_FRAMES, Served([counts.snapshot()]))
    assert values(page, "nv_inference_request_failure") == {
        ("plain", "REJECTED", "1"): 1,
        ("plain", "CANCELED", "1"): 1,
        ("plain", "BACKEND", "1"): 0,
        ("plain", "OTHER", "1"): 2,
    }


def test_cache_is_shown_of_models_that_use_it_and_only_where_there_is_one():
    page = render(NO_FRAMES, served(cache=a_cache()))
    assert values(page, "nv_cache_num_hits_per_model") == {("cached", "1"): 1}
    assert values(page, "nv_cache_hit_duration_per_model") == {("cached", "1"): 7}
    assert values(page, "nv_cache_num_misses_per_model") == {("cached", "1"): 1}
    assert values(page, "nv_cache_miss_duration_per_model") == {("cached", "1"): 9}
    assert values(page, "nv_cache_num_lookups") == {(): 1}
    assert values(page, "nv_cache_num_misses") == {(): 1}
    assert values(page, "nv_cache_util") == {(): 0}
    assert "nv_cache" not in render(NO_FRAMES, served()).decode()


def test_tag_that_prometheus_could_not_read_is_made_readable():
    config = ModelConfig(name="plain", metric_tags={"the-team 1": 'a"b\n'})
    page = render(NO_FRAMES, Served([counted("plain").snapshot()], {("plain", "1"): config}))
    (sample,) = families(page)["nv_inference_count"].samples
    assert sample.labels == {"_the_team_1": 'a"b\n', "model": "plain", "version": "1"}


# Cameras and clients.


def test_model_of_cameras_and_clients_adds_up():
    both = Counts("coco", 3)
    both.batch(2, TIMES)
    both.answered(2, 0, TIMES)
    both.failed(0, RequestError("shape"))
    page = render(make_report(), Served([both.snapshot()]))
    assert values(page, "nv_inference_request_success") == {("coco", "3"): 9 + 1}
    assert values(page, "nv_inference_count") == {("coco", "3"): 9 + 2}
    assert values(page, "nv_inference_exec_count") == {("coco", "3"): 4 + 1}
    assert values(page, "nv_inference_compute_infer_duration_us") == {("coco", "3"): 20_000 + 4}
    failures = values(page, "nv_inference_request_failure")
    assert (failures["coco", "BACKEND", "3"], failures["coco", "OTHER", "3"]) == (1, 1)


def test_models_and_versions_side_by_side_are_apart():
    page = render(make_report(), Served([counted("coco").snapshot(), counted("other").snapshot()]))
    assert values(page, "nv_inference_request_success") == {
        ("coco", "3"): 9,
        ("coco", "1"): 2,
        ("other", "1"): 2,
    }


def test_tags_are_on_what_cameras_did_too():
    config = ModelConfig(name="coco", metric_tags={"team": "cam"})
    clients = Counts("coco", 3).snapshot()
    page = render(make_report(), Served([clients], {("coco", "3"): config}))
    assert values(page, "nv_inference_request_success") == {("cam", "coco", "3"): 9}


# Summaries and histograms.


def test_neither_is_there_unless_asked_for():
    text = render(NO_FRAMES, served(cache=a_cache())).decode()
    assert "_summary_" not in text
    assert "histogram" not in text


def test_summary_has_quantiles_count_and_sum():
    counts = Counts("plain", 1, ("summaries",))
    for queued_us in range(1, 101):
        counts.answered(1, 0, BatchTimes(queued_us * 1000, 3_000, 4_000, 5_000))
    page = render(NO_FRAMES, Served([counts.snapshot()]))
    summary = families(page)["nv_inference_queue_summary_us"]
    shown = {sample.labels.get("quantile", sample.name): sample.value for sample in summary.samples}
    assert shown == {
        "0.5": 51,
        "0.9": 90,
        "0.95": 95,
        "0.99": 99,
        "0.999": 100,
        "nv_inference_queue_summary_us_count": 100,
        "nv_inference_queue_summary_us_sum": 5050,
    }


def test_summary_before_the_first_request_has_no_number():
    page = render(NO_FRAMES, Served([Counts("plain", 1, ("summaries",)).snapshot()]))
    shown = values(page, "nv_inference_request_summary_us", quantile="0.5")
    assert all(map(math.isnan, shown.values()))
    assert len(shown) == 1


def test_histogram_of_first_responses_is_of_decoupled_models():
    page = render(NO_FRAMES, served(("histograms",)))
    histogram = families(page)["nv_inference_first_response_histogram_ms"]
    assert histogram.documentation == "Duration from request to first response in milliseconds"
    assert {sample.labels["model"] for sample in histogram.samples} == {"dec"}
    bounds = [sample.labels["le"] for sample in histogram.samples if sample.name.endswith("_bucket")]
    assert bounds == ["100", "500", "2000", "5000", "+Inf"]


def test_buckets_have_all_below_their_bound():
    counts = Counts("dec", 1, ("histograms",))
    for ago_ms in (50, 400, 400, 10_000):
        counts.part(0, 1, 1, time.monotonic_ns() - ago_ms * 1_000_000)
    counts.part(1, 1, 1, 1)  # not the first
    counts.part(0, 1, 1)  # nobody knows since when
    page = render(NO_FRAMES, Served([counts.snapshot()], CONFIGS))
    histogram = families(page)["nv_inference_first_response_histogram_ms"]
    shown = {
        sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in histogram.samples
    }
    assert shown.pop("sum") == pytest.approx(10_850, rel=0.05)
    assert shown == {"100": 1, "500": 3, "2000": 3, "5000": 3, "+Inf": 4, "count": 4}


# Where it comes from.


def test_core_is_asked_for_statistics_and_configurations():
    with FakeCore() as core:
        found = look(core)
    names = {statistics.name for statistics in found.statistics}
    assert {name for name, _ in found.configs} == names
    assert {"identity", "slow"} <= names
    assert found.cache is None


def test_model_that_is_unloaded_meanwhile_is_still_shown():
    class Unloading(FakeCore):
        def model_config(self, model, version=0):
            raise UnknownModelError(f"unknown model {model}")

    with Unloading() as core:
        found = look(core)
    assert found.configs == {}
    assert 'nv_inference_count{model="identity",version="1"} 0' in render(NO_FRAMES, found).decode()


# The machine.


def test_gauges_of_one_name_are_one_family():
    gauges = [
        Gauge("edgert_temperature_celsius", 41.5, {"zone": "cpu"}),
        Gauge("nv_energy_consumption", 7.0, {"gpu_uuid": "GPU-1"}),
        Gauge("edgert_temperature_celsius", 43.0, {"zone": "gpu"}),
    ]
    page = render(NO_FRAMES, None, gauges)
    assert values(page, "edgert_temperature_celsius") == {("cpu",): 41.5, ("gpu",): 43.0}
    assert families(page)["nv_energy_consumption"].type == "counter"
    assert 'nv_energy_consumption{gpu_uuid="GPU-1"} 7.0' in page.decode()


@pytest.mark.parametrize(("limit", "total"), [(0, 4096), (2048, 2048)])
def test_pinned_memory_is_bounded_by_the_budget_or_the_machine(limit, total):
    report = make_report()
    report["memory"] |= {"pinned_bytes": 1024, "limit_bytes": limit}
    page = render(report, None, [Gauge("nv_cpu_memory_total_bytes", 4096)])
    assert values(page, "nv_pinned_memory_pool_total_bytes") == {(): total}
    assert values(page, "nv_pinned_memory_pool_used_bytes") == {(): 1024}


def test_what_the_fronts_refused_is_counted_by_reason():
    core = FakeCore()
    refused = {"http": {"unauthorized": 2, "full_error": 1}, "grpc": {"RESOURCE_EXHAUSTED": 3}}
    page = render(NO_FRAMES, look(core, None, refused))
    assert b"\nedgert_front_refused_total{" in page
    assert values(page, "edgert_front_refused") == {
        ("http", "unauthorized"): 2,
        ("http", "full_error"): 1,
        ("grpc", "RESOURCE_EXHAUSTED"): 3,
    }
