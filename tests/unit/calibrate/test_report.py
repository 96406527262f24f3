"""The report as JSON, text and a page."""

from __future__ import annotations

import base64
import datetime
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import msgspec
import numpy as np
import pytest

from edgert.calibrate.compare.average_precision import PrecisionFigures
from edgert.calibrate.compare.changed import ChangedFrame, MostChanged
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.limits import AccuracyLimits
from edgert.calibrate.compare.metrics import ClassFigures, DetectionFigures, TensorFigures
from edgert.calibrate.report.drawing import BINS, HEIGHT, WIDTH, Outline, histogram_svg, outline_of
from edgert.calibrate.report.html import MAX_LAYERS, MAX_TENSORS, html_page
from edgert.calibrate.report.pictures import ChangedPicture
from edgert.calibrate.report.record import record_of
from edgert.calibrate.report.report import (
    CalibrationReport,
    FrameDifference,
    LayerReport,
    MethodReport,
    ModelCost,
    SampleCounts,
    StageTime,
    TensorReport,
    read_report,
    report_json,
    verdict_on,
)
from edgert.calibrate.report.text import report_lines
from edgert.calibrate.report.thumbnail import MAX_JPEG_BYTES, thumbnail_jpeg
from edgert.errors import ConfigError, FrameError
from edgert.frames.result import Classes, Detections, Tensors
from edgert.models.calibration_record import read_record, write_record
from edgert.models.manifest import SourceModel

VOID = {"meta", "br", "link", "img"}
EVIL = "<script>alert('&')</script>"


def make_report(**changes):
    return CalibrationReport(
        **{
            "model": "coco",
            "source": SourceModel("coco.onnx", "0" * 64),
            "made_utc": datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.timezone.utc),
            "edgert": "0.1.0",
            "seed": 0,
            "samples": SampleCounts(calibration=500, selection=50, held_out=100),
            "verdict": "no limits",
            "method": "mse",
            **changes,
        }
    )


def make_tensor(name="conv1", sqnr_db=30.0, **changes):
    return TensorReport(
        **{
            "name": name,
            "amax": 4.0,
            "method": "mse",
            "low": -1.0,
            "high": 5.0,
            "observed_amax": 5.0,
            "sqnr_db": sqnr_db,
            "histogram": Outline((900, 90, 9, 1), 1.25),
            **changes,
        }
    )


def precision(value):
    return PrecisionFigures(frames=10, map_50=0.6, map=value, classes=())


FIGURES = ComparisonFigures(
    frames=100,
    classes=ClassFigures(
        frames=100,
        top1_agreement=0.97,
        top5_overlap=0.9,
        labelled=10,
        reference_top1=0.9,
        reference_top5=1.0,
        candidate_top1=0.8,
        candidate_top5=0.9,
    ),
    detections=DetectionFigures(
        frames=100,
        reference_count=412,
        candidate_count=406,
        matched=400,
        recall=0.971,
        precision=0.985,
        score_error=0.0214,
        iou=0.9,
        score_min=0.5,
        lost_below=7,
        new_below=1,
    ),
    reference_map=precision(0.41),
    candidate_map=precision(0.40),
    tensors=(
        TensorFigures(
            name="scores",
            frames=100,
            not_finite=1,
            cosine_mean=0.99,
            cosine_min=0.0,
            relative_error_mean=0.01,
            relative_error_max=0.2,
        ),
    ),
)
LAYERS = (
    LayerReport(name="conv_a", type="Conv", error=0.001),
    LayerReport(name="add_b", type="Add", error=0.02, is_kept=True, reason="most sensitive"),
)
FULL = make_report(
    onnxruntime="1.20.1",
    verdict="over limits",
    problems=("recall 0.971, expected 0.990 or more",),
    notes=("only 40 frames",),
    limits=AccuracyLimits(recall_min=0.99),
    methods=(
        MethodReport(method="mse", agreement=0.97, is_chosen=True, figures=FIGURES),
        MethodReport(method="minmax", agreement=0.9),
    ),
    figures=FIGURES,
    reference=ModelCost(size_bytes=18_200_000, p50_ms=10.0, p99_ms=12.0, device="host"),
    candidate=ModelCost(size_bytes=4_550_000, p50_ms=5.0, p99_ms=6.5, device="host"),
    tensors=(make_tensor("fine", 40.0), make_tensor("dead", None, is_dead=True), make_tensor("worst", 9.5)),
    layers=LAYERS,
    changed=(FrameDifference("17.jpg", 1.5),),
    stages=(StageTime("observe", 12.34),),
    peak_rss_bytes=812_000_000,
)


def detections(*rows, labels=("person",)):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int), labels
    )


def classes(*indices, labels=()):
    return Classes(np.linspace(0.9, 0.1, len(indices), dtype=np.float32), np.array(indices), labels)


def make_picture(reference, candidate, file="17.jpg", width=960, height=720):
    jpeg = thumbnail_jpeg(np.full((height, width, 3), 128, np.uint8))
    return ChangedPicture(ChangedFrame(file, 1.5, width, height, reference, candidate), jpeg)


class Page(HTMLParser):
    """Keeps tags and text, and checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def drawings(page):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


@pytest.mark.parametrize("report", [FULL, make_report()])
def test_json_can_be_read_back(tmp_path, report):
    path = tmp_path / "report.json"
    path.write_bytes(report_json(report))
    assert read_report(path) == report
    assert json.loads(path.read_text())["schema"] == "edgert.calibration/1"


def test_an_endless_ratio_is_none_in_json(tmp_path):
    path = tmp_path / "report.json"
    path.write_bytes(report_json(make_report(tensors=(make_tensor(sqnr_db=float("inf")),))))
    assert read_report(path).tensors[0].sqnr_db is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": "edgert.perf/1"}'])
def test_another_file_is_no_report(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"report\.json: not a calibration report"):
        read_report(path)


def test_a_report_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize(
    ("limits", "problems", "verdict"),
    [
        (AccuracyLimits(), (), "no limits"),
        (AccuracyLimits(recall_min=0.5), (), "within limits"),
        (AccuracyLimits(recall_min=0.5), ("recall",), "over limits"),
        (AccuracyLimits(), ("the camera died",), "over limits"),
    ],
)
def test_the_verdict(limits, problems, verdict):
    assert verdict_on(limits, problems) == verdict


def test_text():
    lines = report_lines(FULL)
    assert lines[:3] == [
        "coco: INT8 by mse, over limits",
        "  PROBLEM: recall 0.971, expected 0.990 or more",
        "  samples: 500 for calibration, 50 for selection, 100 held out (0 labelled)",
    ]
    assert "  top-1 accuracy: FP32 0.9000, INT8 0.8000 of 10 labelled frames" in lines
    recall = "recall: 0.9710 of FP32's 412 detections of score 0.5 or more"
    assert f"  {recall}; INT8 has not 12, 7 of them only as its score is below that" in lines
    precision = "precision: 0.9850 of INT8's 406 detections of score 0.5 or more"
    assert f"  {precision}; FP32 has not 6, 1 of them only as its score is below that" in lines
    assert "  mAP 0.5:0.95: FP32 0.4100, INT8 0.4000 of 10 labelled frames" in lines
    assert (
        "  cosine of scores: mean 0.99000, least 0.00000, largest error 20.00%, NOT finite in 1 of 100 frames"
        in lines
    )
    assert "  size: FP32 18.20 MB, INT8 4.55 MB (0.25 of it)" in lines
    where = "on the host's onnxruntime, Q/DQ in float arithmetic: not the built engine's"
    assert f"  latency p99: FP32 12.000 ms, INT8 6.500 ms (0.54 of it), {where}" in lines
    assert "  methods tried: mse 0.9700, minmax 0.9000" in lines
    assert "  least SQNR: worst 9.5 dB, fine 40.0 dB" in lines
    assert "  kept in FP32 (1): add_b; so too in a strongly typed engine" in lines
    assert "  peak memory: 812 MB" in lines
    assert lines[-1] == "  note: only 40 frames"


def test_a_bare_report_is_short():
    assert report_lines(make_report()) == [
        "coco: INT8 by mse, no limits",
        "  samples: 500 for calibration, 50 for selection, 100 held out (0 labelled)",
    ]


def test_many_kept_layers_are_counted():
    layers = tuple(LayerReport(name=f"l{n}", type="Conv", error=1 / (n + 1), is_kept=True) for n in range(7))
    assert report_lines(make_report(layers=layers))[-1] == (
        "  kept in FP32 (7): l0, l1, l2, l3, l4 and 2 more; so too in a strongly typed engine"
    )


def test_the_page_stands_alone_and_is_whole():
    text = html_page(FULL, [make_picture(detections((0, 0, 9, 9, 0.9, 0)), detections())])
    page = Page(text)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in page.tags}
    addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src")]
    assert addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "#frame")) for address in addresses)
    assert "url(" not in text
    assert "@import" not in text
    assert len(drawings(text)) == 3 + 2 + 2  # histograms, layers, sides
    assert page.all("meta")[1]["name"] == "viewport"


def test_the_verdict_and_figures_come_first():
    text = html_page(FULL)
    assert '<p class="big bad">Over limits</p>' in text
    places = [text.index(part) for part in ("Over limits", "expected 0.990", "INT8 4.55 MB", "<h2>")]
    assert places == sorted(places)
    assert '<p class="big">No limits</p>' in html_page(make_report())
    assert '<p class="big good">' in html_page(make_report(verdict="within limits"))


def test_tensors_and_layers_are_sorted():
    text = "".join(Page(html_page(FULL)).text)
    text = text[text.index("Sensitivity of layers") :]
    assert text.index("worst") < text.index("fine") < text.index("dead (dead)")
    assert text.index("add_b") < text.index("conv_a")
    assert "float: most sensitive" in text


def test_detections_that_may_have_crossed_the_score_are_told_of():
    few = msgspec.structs.replace(FIGURES.detections, lost_below=None, new_below=None)
    lines = report_lines(make_report(figures=msgspec.structs.replace(FIGURES, detections=few)))
    [recall] = [line for line in lines if line.startswith("  recall: ")]
    assert recall.endswith("; INT8 has not 12, some perhaps only as its score is below that")
    every = msgspec.structs.replace(few, reference_count=400)
    lines = report_lines(make_report(figures=msgspec.structs.replace(FIGURES, detections=every)))
    assert "  recall: 0.9710 of FP32's 400 detections of score 0.5 or more" in lines


def test_the_page_says_what_its_words_mean():
    text = "".join(Page(html_page(FULL)).text)
    for words in (
        "not the built engine's",
        "signal to quantization noise",
        "the magnitude that becomes 127",
        "values beyond the threshold",
        "least mean squared error",
        "F1 of the detections",
        "INT8's detections that FP32 has",
        "area that both boxes cover",
        "FP16 is not written",
        "7 of them only as its score is below that",
    ):
        assert words in text, words
    assert text.index("least mean squared error") < text.index("Sensitivity of layers")
    bare = "".join(Page(html_page(make_report(layers=LAYERS[:1]))).text)
    assert not any(words in bare for words in ("entropy", "FP16", "SQNR", "mean average"))


def test_a_note_is_in_text_page_and_json():
    note = "The limits were judged by 3 frames; at least 50 are advised"
    report = make_report(notes=(note,))
    assert f"  note: {note}" in report_lines(report)
    assert f'<p class="warning">Note: {note}</p>' in html_page(report)
    assert json.loads(report_json(report))["notes"] == [note]


def test_a_frame_that_changed_is_shown_with_what_was_compared():
    low, high = (0, 0, 9, 9, 0.02, 0), (5, 5, 60, 60, 0.6, 0)
    frame = ChangedFrame("x.jpg", 1.0, 64, 64, detections(high, low), detections(low)).above(0.5)
    assert frame.reference.scores.tolist() == [np.float32(0.6)]
    assert len(frame.candidate.scores) == 0
    best = ChangedFrame("x.jpg", 1.0, 64, 64, classes(0, 1), None)
    assert best.above(0.5).reference is best.reference


def test_the_record_has_the_figures_that_were_measured(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"a model")
    record = record_of(FULL, file)
    write_record(file, record)
    assert read_record(file) == record
    assert record.against_fp32["recall"] == 0.971
    assert record.against_fp32["map_drop"] == 0.01
    assert (record.layers_int8, record.layers_float, record.verdict) == (1, ("add_b",), "over limits")
    assert record_of(make_report(), file).against_fp32 == {}


def test_bars_are_as_long_as_the_sensitivity():
    bars = [svg.find("rect") for svg in drawings(html_page(make_report(layers=LAYERS)))]
    assert [bar.get("width") for bar in bars] == ["100.0", "5.0"]
    assert [bar.get("class") for bar in bars] == ["over", "within"]


def test_layers_that_lose_nothing_have_no_bar():
    layers = (LayerReport(name="a", type="Conv", error=0.0), LayerReport(name="b", type="Conv", error=0.0))
    bars = [svg.find("rect") for svg in drawings(html_page(make_report(layers=layers)))]
    assert [bar.get("width") for bar in bars] == ["0.0", "0.0"]


def test_every_text_is_escaped():
    evil = make_report(
        model=EVIL,
        source=SourceModel(EVIL, "0" * 64),
        edgert=EVIL,
        onnxruntime=EVIL,
        problems=(EVIL,),
        notes=(EVIL,),
        method=EVIL,
        methods=(MethodReport(method=EVIL, agreement=1.0, is_chosen=True),),
        tensors=(make_tensor(EVIL, method=EVIL),),
        layers=(LayerReport(name=EVIL, type=EVIL, is_kept=True, reason=EVIL),),
        figures=msgspec.structs.replace(
            FIGURES, tensors=(msgspec.structs.replace(FIGURES.tensors[0], name=EVIL),)
        ),
        stages=(StageTime(EVIL, 1.0),),
    )
    pictures = [
        make_picture(detections((0, 0, 9, 9, 0.9, 0), labels=(EVIL,)), detections(), EVIL),
        make_picture(classes(0, labels=(EVIL,)), classes(), EVIL),
    ]
    text = html_page(evil, pictures)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert Page(text).all("script") == []


def test_boxes_are_drawn_where_they_are_and_marked_if_alone():
    both, alone = (96, 72, 480, 360, 0.9, 0), (500, 100, 900, 2000, 0.8, 0)
    broken = (np.nan, 0, 1, 1, 0.7, 0)
    text = html_page(make_report(), [make_picture(detections(both, alone, broken), detections(both))])
    fp32, int8 = drawings(text)
    assert fp32.get("viewBox") == "0 0 480 360"
    assert [group.get("class") for group in fp32.findall("g")] == ["both", "alone"]
    first, second = (group.find("rect").attrib for group in fp32.findall("g"))
    assert first == {"x": "48.0", "y": "36.0", "width": "192.0", "height": "144.0"}
    assert second == {"x": "250.0", "y": "50.0", "width": "200.0", "height": "310.0"}
    assert [text.text for text in int8.iter("text")] == ["person 0.90"]
    data = fp32.find("image").get("href").removeprefix("data:image/jpeg;base64,")
    jpeg = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert jpeg.shape == (360, 480, 3)
    assert int8.find("use").get("href") == "#" + fp32.find("image").get("id")


def test_the_best_classes_are_written():
    labels = ("cat", "dog")
    text = html_page(
        make_report(), [make_picture(classes(0, 1, labels=labels), classes(1, 0, labels=labels))]
    )
    assert "<ol><li>cat 0.90</li><li>dog 0.10</li></ol>" in text
    assert text.index("cat 0.90") < text.index("dog 0.90")


def test_the_page_is_bounded():
    noise = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)
    rows = [(n, n, 400 - n, 400 - n, 0.9, 0) for n in range(50)]
    frame = ChangedFrame("x.jpg", 1.0, 480, 480, detections(*rows), detections(*rows))
    pictures = [ChangedPicture(frame, thumbnail_jpeg(noise))] * 20
    name = "backbone/stage/block/conv/" * 10
    outline = Outline(tuple(range(1, BINS + 1)), 0.1)
    tensors = tuple(make_tensor(f"{n}{name}", float(n), histogram=outline) for n in range(MAX_TENSORS + 7))
    layers = tuple(LayerReport(name=name, type="Conv", error=0.1) for _ in range(MAX_LAYERS + 3))
    text = html_page(make_report(tensors=tensors, layers=layers), pictures)
    assert text.count("<image ") == 12
    assert len(text) < 4_000_000
    assert "7 more are in the JSON file." in text
    assert "3 more are in the JSON file." in text


def test_an_outline_ends_behind_the_last_value():
    counts = np.zeros(8192, np.int64)
    counts[[0, 1, 999]] = 5, 7, 1
    outline = outline_of(counts, 0.01, 5.0)
    assert len(outline.counts) == 63  # of 16 bins each
    assert outline.bin_width == pytest.approx(0.16)
    assert (outline.counts[0], outline.counts[62], sum(outline.counts)) == (12, 1, 13)


def test_an_outline_reaches_to_the_threshold():
    counts = np.zeros(100, np.int64)
    counts[3] = 1
    assert len(outline_of(counts, 1.0, 50.0).counts) == 50
    assert len(outline_of(counts, 1.0, 1e9).counts) == 50  # 100 bins, two by two
    assert outline_of(counts, 1.0, 1.0).counts == (0, 0, 0, 1)


def test_an_outline_of_nothing():
    empty = outline_of(np.zeros(8192, np.int64), 0.0, 0.0)
    assert empty.counts == (0,)
    assert ElementTree.fromstring(histogram_svg(empty, 0.0)).get("class") == "histogram"


def test_the_threshold_parts_what_saturates():
    svg = ElementTree.fromstring(histogram_svg(Outline((100, 10, 1, 1), 1.0), 2.0))
    within, over = svg.findall("path")
    assert (within.get("class"), over.get("class")) == ("within", "over")
    assert within.get("d").startswith(f"M0.0 {HEIGHT}V2.0H48.0")
    assert over.get("d").startswith(f"M96.0 {HEIGHT}")
    assert svg.find("line").get("x1") == f"{WIDTH / 2:.1f}"


@pytest.mark.parametrize("amax", [4.0, 9.0])
def test_nothing_saturates_below_the_threshold(amax):
    svg = ElementTree.fromstring(histogram_svg(Outline((100, 10, 1, 1), 1.0), amax))
    assert [path.get("class") for path in svg.findall("path")] == ["within"]
    assert svg.find("line").get("x1") == f"{WIDTH:.1f}"


def test_the_most_changed_are_kept():
    most = MostChanged(limit=2)
    for file, difference in (("a", 1.0), ("b", 0.0), ("c", 3.0), ("d", 1.0), ("e", 2.0), ("f", 2.0)):
        most.add(file, difference, (640, 480), classes(0), classes(1))
    assert [frame.file for frame in most.frames()] == ["c", "e"]
    assert (most.frames()[0].width, most.frames()[0].height) == (640, 480)


def test_only_what_can_be_drawn_is_kept():
    most = MostChanged()
    rows = [(n, n, n + 5, n + 5, 0.9, 0) for n in range(80)]
    most.add("a", 1.0, (640, 480), detections(*rows), Tensors({"y": np.zeros(1000)}))
    [frame] = most.frames()
    assert len(frame.reference.scores) == 50
    assert frame.candidate is None


def test_a_thumbnail_keeps_its_shape_and_bound():
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    jpeg = thumbnail_jpeg(noise)
    assert len(jpeg) <= MAX_JPEG_BYTES
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (270, 480, 3)
    small = thumbnail_jpeg(noise[:30, :20])
    assert cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR).shape == (30, 20, 3)


def test_a_picture_without_pixels_has_no_thumbnail():
    with pytest.raises(FrameError, match="OpenCV"):
        thumbnail_jpeg(np.zeros((0, 0, 3), np.uint8))


@pytest.mark.parametrize(("pixel_format", "level"), [("gray8", 200), ("nv12", 214)])
def test_a_thumbnail_of_one_plane_is_of_the_picture(pixel_format, level):
    """Of nv12 white is 235 and black 16, and the chroma of grey is 128."""
    plane = np.full((60, 40), 200, np.uint8)
    chroma = [np.full((30, 40), 128, np.uint8)] if pixel_format == "nv12" else []
    jpeg = thumbnail_jpeg(np.concatenate([plane, *chroma]), pixel_format)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (60, 40, 3)
    assert np.abs(picture.astype(int) - level).max() <= 3
