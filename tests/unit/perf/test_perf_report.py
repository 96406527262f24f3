"""The report as text, JSON and a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import msgspec
import pytest

from edgert.execute.engine import GraphCounts
from edgert.perf.bare import BareFigures
from edgert.perf.curve import Axis, curve, round_step
from edgert.perf.layers import LayerTimes
from edgert.perf.measure import Sample, figures_of, spread_of
from edgert.perf.options import Level
from edgert.perf.report import PerfReport, Setup
from edgert.perf.report_html import html_page
from edgert.perf.report_text import progress_line, table_lines, text_lines

MS = 1_000_000
VOID = {"meta", "br", "link", "img"}


def make_setup(**changes):
    setup = Setup(
        model="coco/1",
        runtime="tensorrt",
        device="Orin",
        is_device=True,
        edgert="0.1.0",
        batch=2,
        lanes=4,
        graphs=8,
        device_times=True,
        threads=0,
        input="random",
        seed=0,
        arrivals="poisson",
        warm_up_ms=200.0,
        duration_s=3.0,
        latency_limit_ms=None,
    )
    return msgspec.structs.replace(setup, **changes)


def make_figures(value=1, response_ms=10, kind="concurrency", **changes):
    times = [response_ms * MS + index * MS for index in range(10)]
    samples = [Sample(0, 0, took, 0.25, 1.5, 7.0, 0.5) for took in times]
    return msgspec.structs.replace(figures_of(Level(kind, value), 2, samples), **changes)


def make_report(*levels, best=0, **changes):
    return PerfReport(
        **{
            "setup": make_setup(),
            "levels": levels or (make_figures(),),
            "best": best,
            "warnings": (),
            **changes,
        }
    )


LAYERS = (
    LayerTimes("conv <1>", 0.75, 0.7, 0.75, "Convolution", "FP16"),
    LayerTimes("relu", 0.25, 0.2, 0.25),
)
BARE = BareFigures("execute_async_v3 in a loop", 4, 100, 1000.0, 2000.0, spread_of([1.0, 2.0]))
FULL = make_report(
    make_figures(1, 10),
    make_figures(2, 15),
    make_figures(4, 900, is_over_limit=True, unserved=3),
    best=1,
    setup=make_setup(latency_limit_ms=50.0),
    warnings=("it is <hot> & slow",),
    bare=BARE,
    bare_ratios=(0.9, 0.97, 1.1),
    layers=LAYERS,
    is_interrupted=True,
)


# Text


def test_the_first_line_says_what_was_measured():
    first = next(iter(text_lines(make_report(graphs=GraphCounts(6, 100, 12)))))
    assert first == "coco/1 with tensorrt on Orin, batch 2, 4 lanes, 6 graphs, input: random"
    assert "no graphs" in next(iter(text_lines(make_report())))
    host = make_setup(is_device=False, threads=2, lanes=1, device="x86_64, 8 cores")
    assert "1 lane, 2 threads a lane" in next(iter(text_lines(make_report(setup=host))))


def test_the_summary_is_in_trtexecs_order():
    lines = list(text_lines(make_report()))
    begin = lines.index("=== Performance summary: concurrency 1 ===")
    titles = [line.partition(":")[0] for line in lines[begin + 1 :]]
    assert titles[:8] == [
        "Throughput",
        "Latency",
        "Enqueue Time",
        "H2D Latency",
        "GPU Compute Time",
        "D2H Latency",
        "Total Host Walltime",
        "Total GPU Compute Time",
    ]
    assert titles[8:] == ["Response Time", "Requests"]


def test_a_time_is_told_as_trtexec_tells_it():
    [line] = [line for line in text_lines(make_report()) if line.startswith("Latency")]
    assert line == (
        "Latency: min = 9 ms, max = 9 ms, mean = 9 ms, median = 9 ms, percentile(90%) = 9 ms, "
        "percentile(95%) = 9 ms, percentile(99%) = 9 ms"
    )


@pytest.mark.parametrize("changes", [{"is_device": False, "threads": 2}, {"device_times": False}])
def test_times_of_the_host_are_not_called_a_devices(changes):
    text = "\n".join(text_lines(make_report(setup=make_setup(**changes))))
    assert "Fill Time: " in text
    assert "Total Compute Time: " in text
    assert not re.search("H2D|D2H|GPU Compute", text)


def test_a_sweep_has_a_table_and_the_summary_of_the_best():
    text = "\n".join(text_lines(FULL))
    assert "=== Performance summary: concurrency 2 ===" in text
    rows = [line for line in text.splitlines() if line.startswith("concurrency ")]
    assert [row.split()[1] for row in rows] == ["1", "2", "4"]
    assert rows[2].endswith("over the limit, 3 unserved")
    assert "Best within 50 ms at 99%: concurrency 2" in text
    assert "warning: it is <hot> & slow" in text
    assert "edgert reaches 0.970 of its throughput (0.90 to 1.10)" in text
    assert text.splitlines()[-1].startswith("interrupted")


def test_layers_are_a_table():
    text = "\n".join(text_lines(FULL))
    assert re.search(r"0\.7500 +0\.7000 +75\.0%  Convolution  FP16 +conv <1>\n", text)


def test_no_level_within_the_limit():
    report = make_report(make_figures(is_over_limit=True), best=None, setup=make_setup(latency_limit_ms=5.0))
    assert "No level kept 99% of its responses within 5 ms" in list(text_lines(report))


def test_progress_is_one_line_a_level():
    assert progress_line(make_figures(50, kind="rate", is_over_limit=True)) == (
        "rate 50/s: 526.3 batches/s, p50 14.500 ms, p99 19.000 ms, over the limit"
    )


def test_a_table_shortens_what_is_too_wide():
    lines = list(table_lines(("a", "b"), [("x" * 70, "1"), ("y", "22")]))
    assert lines[0] == f"a{' ' * 59}   b"
    assert lines[1] == f"{'x' * 59}…   1"
    assert lines[2] == f"y{' ' * 59}  22"


# JSON


def test_json_has_everything_with_its_unit():
    report = json.loads(msgspec.json.encode(FULL))
    assert report["schema"] == "edgert.perf/1"
    assert report["best"] == 1
    assert report["levels"][1]["level"] == {"kind": "concurrency", "value": 2}
    assert report["levels"][1]["latency"]["p99_ms"] == 9.0
    assert report["layers"][0]["mean_ms"] == 0.75
    assert msgspec.json.decode(msgspec.json.encode(FULL), type=PerfReport) == FULL


# The page


class Page(HTMLParser):
    """Checks that elements are closed in the order in which they were opened."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.seen, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("report", [make_report(), FULL])
def test_the_page_is_well_formed(report):
    text = html_page(report)
    page = Page(text)
    assert text.startswith("<!doctype html>\n")
    assert page.seen.count("svg") == page.seen.count("title") - len(report.levels) * 2 == 1
    assert ("charset", "utf-8") in page.attributes


@pytest.mark.parametrize("report", [make_report(), FULL])
def test_the_page_needs_nothing_beside_it(report):
    text = html_page(report)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "use", "image"} & set(page.seen)
    assert not {"src", "href", "xlink:href", "srcset", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?:|//|url\(|@import|@font-face", text)


def test_the_page_fits_a_phone_and_the_dark():
    text = html_page(FULL)
    assert ("content", "width=device-width, initial-scale=1") in Page(text).attributes
    assert "prefers-color-scheme: dark" in text
    assert "overflow-x: auto" in text
    assert not re.search(r"width: \d{3,}px", text)


def test_the_page_shows_names_as_text():
    report = make_report(setup=make_setup(model="<b>&model</b>"), warnings=("<script>",), layers=LAYERS)
    page = Page(html_page(report))
    assert not {"b", "script"} & set(page.seen)
    assert "<b>&model</b>" in page.words
    assert "conv <1>" in page.words


def test_the_page_has_what_the_text_has():
    words = " ".join(Page(html_page(FULL)).words)
    for word in ("concurrency 4", "0.970", "H2D Latency", "Interrupted", "it is <hot> & slow", "50 ms"):
        assert word in words


# The curve


def places(svg, name):
    return [
        (float(x), float(y))
        for x, y in re.findall(rf'<circle class="{name}" cx="([\d.]+)" cy="([\d.]+)"', svg)
    ]


def test_a_point_stands_further_right_and_higher_for_more():
    levels = [make_figures(1, 10, items_per_s=100.0), make_figures(2, 40, items_per_s=190.0)]
    svg = curve(levels, None)
    (x1, y1), (x2, y2) = places(svg, "p99")
    assert x1 < x2
    assert y1 > y2  # down is larger in SVG
    assert places(svg, "p50")[0][1] > y1
    assert svg.count("<polyline") == 2


def test_all_of_the_curve_is_within_the_picture():
    for limit in (None, 50.0, 5000.0):
        numbers = re.findall(r'c([xy])="(-?[\d.]+)"', curve(FULL.levels, limit))
        assert len(numbers) == 12
        assert all(0 <= float(value) <= (480 if axis == "x" else 320) for axis, value in numbers)


def test_one_level_is_a_point_without_a_line():
    svg = curve([make_figures()], None)
    assert "<polyline" not in svg
    assert len(places(svg, "p50")) == 1


def test_the_limit_is_a_line():
    assert curve([make_figures()], 12.0).count('class="limit"') == 1
    assert 'class="limit"' not in curve([make_figures()], None)


def test_times_that_differ_much_are_on_a_logarithmic_axis():
    axis = Axis(1.0, 1000.0, 300.0, 0.0, is_logarithmic=True)
    assert axis.place(1.0) == 300.0
    assert axis.place(1000.0) == 0.0
    assert axis.place(10.0) == pytest.approx(200.0)
    assert axis.ticks() == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert Axis(0.01, 1000.0, 0.0, 1.0, is_logarithmic=True).ticks() == pytest.approx(
        [0.01, 0.1, 1, 10, 100, 1000]
    )


@pytest.mark.parametrize("span", [1e-4, 0.03, 0.7, 1, 6, 7, 59, 100, 12345, 9e6])
def test_steps_are_round_and_few(span):
    step = round_step(span)
    assert 1 <= span / step <= 6.01
    assert f"{step:e}"[0] in "125"
    assert all(0 <= tick <= span for tick in Axis(0.0, span, 0.0, 1.0).ticks())


def test_figures_that_are_all_zero_make_a_curve():
    nothing = make_figures(throughput_per_s=0.0, items_per_s=0.0, response=spread_of([0.0]))
    assert "<svg" in curve([nothing], None)
