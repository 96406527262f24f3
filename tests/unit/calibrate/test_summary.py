"""The report that is put together of what the stages found."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgert.calibrate.choose import Choice
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.held_out import HeldOut
from edgert.calibrate.compare.metrics import ClassFigures
from edgert.calibrate.observe.observation import Observation
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.report.report import StageTime, read_report, report_json
from edgert.calibrate.report.summary import Findings, summarise
from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet
from edgert.calibrate.setting import open_setting
from tests.fakes.recipe import RecipeSite

AMAX = {"image": 1.0, "r1": 2.0, "flat": 1e-18}


def frames(count):
    return tuple(SampleFrame(f"{n}.png", "0" * 64, f"x#{n}", n) for n in range(count))


@pytest.fixture
def summary(tmp_path):
    """Return a function that summarises, with a recipe's `[limits]` and what was held out."""
    site = RecipeSite(tmp_path)
    model = tmp_path / "model.int8.onnx"
    model.write_bytes(bytes(5000))

    def summarised(limits="", held_out=None, **choice):
        setting = open_setting(load_recipe(site.recipe(f"[limits]\n{limits}")))
        observation = Observation()
        random = np.random.default_rng(0)
        observation.add("image", random.uniform(-1, 2, (1, 3, 4, 4)).astype(np.float32), "f")
        observation.add("r1", np.maximum(random.normal(size=(1, 8, 4, 4)), 0).astype(np.float32), "f")
        observation.add("flat", np.zeros((1, 12), np.float32), "f")
        chosen = Choice(method="mse", amax=AMAX, **{"kept": {}, **choice})
        samples = SampleSet(frames(5), frames(2), frames(3), 7, "reservoir", 40, ("few frames",))
        placement = place(setting.model.graph(), chosen.kept).within(chosen.amax)
        found = Findings(samples, observation, chosen, placement, model, [StageTime("observe", 1.5)])
        return setting, summarise(setting, found, held_out or HeldOut())

    return summarised


def agreeing(share):
    figures = ClassFigures(frames=100, top1_agreement=share, top5_overlap=1.0)
    return HeldOut(
        figures=ComparisonFigures(frames=100, classes=figures),
        labelled=2,
        reference_ms=[1.0, 2.0, 3.0],
        candidate_ms=[4.0],
        notes=("a note of the comparison",),
    )


def test_what_was_made_of_what(summary):
    setting, report = summary()
    assert (report.model, report.source.name, report.seed, report.method) == (
        "tiny-int8",
        "model.onnx",
        7,
        "mse",
    )
    assert report.source.sha256 == setting.model.file.sha256
    counts = report.samples
    assert (counts.calibration, counts.selection, counts.held_out, counts.offered) == (5, 2, 3, 40)
    assert report.stages == (StageTime("observe", 1.5),)


def test_sizes_and_times(summary):
    setting, report = summary(held_out=agreeing(1.0))
    assert report.reference.size_bytes == setting.model.file.path.stat().st_size
    assert report.candidate.size_bytes == 5000
    assert (report.reference.p50_ms, report.candidate.p50_ms) == (2.0, 4.0)
    assert 2.0 < report.reference.p99_ms <= 3.0


def test_a_report_comes_back_from_its_file(summary, tmp_path):
    _, report = summary(held_out=agreeing(0.9))
    (tmp_path / "report.json").write_bytes(report_json(report))
    assert read_report(tmp_path / "report.json") == report


def test_notes_of_all_stages_are_there(summary):
    _, report = summary(held_out=agreeing(1.0), notes=("no method tried",))
    assert report.notes == ("few frames", "no method tried", "a note of the comparison")


@pytest.mark.parametrize(
    ("limits", "share", "verdict"),
    [
        ("", 0.5, "no limits"),
        ("top1_agreement_min = 0.9", 0.95, "within limits"),
        ("top1_agreement_min = 0.9", 0.85, "over limits"),
    ],
)
def test_the_verdict(summary, limits, share, verdict):
    _, report = summary(limits, agreeing(share))
    assert report.verdict == verdict
    assert (report.problems != ()) is (verdict == "over limits")


def test_limits_that_few_frames_judged_are_told_of(summary):
    _, judged = summary("top1_agreement_min = 0.9", agreeing(1.0))
    assert judged.notes[-1] == "The limits were judged by 3 frames; at least 50 are advised"
    _, free = summary(held_out=agreeing(1.0))
    assert not any("limits" in note for note in free.notes)


def test_limits_without_held_out_frames_are_not_kept(summary):
    _, report = summary("cosine_min = 0.1")
    assert report.verdict == "over limits"
    assert report.problems == ("there are limits, and no frame was held out to measure with",)
    assert summary()[1].verdict == "no limits"
    assert report.reference.p50_ms is None


def test_tensors(summary):
    _, report = summary()
    tensors = {each.name: each for each in report.tensors}
    assert list(tensors) == ["flat", "image", "r1"]
    assert 0.3 < tensors["image"].saturated_share < 0.4  # a third of -1 to 2 is above 1
    assert tensors["image"].observed_amax == pytest.approx(tensors["image"].high)
    assert tensors["r1"].low == 0.0
    assert 0.3 < tensors["r1"].zeros_share < 0.7
    assert [name for name, each in tensors.items() if each.is_dead] == ["flat"]
    assert tensors["flat"].sqnr_db is None


def test_layers_and_why_they_are_in_float(summary):
    _, report = summary(kept={"first": "sensitive"}, errors={"first": 0.25, "second": 0.125})
    layers = {each.name: (each.type, each.is_kept, each.reason, each.error) for each in report.layers}
    assert layers == {
        "first": ("Conv", True, "sensitive", 0.25),
        "second": ("Conv", False, "", 0.125),
        "last": ("Gemm", False, "", None),
    }


def test_a_layer_without_a_range_says_so(summary, monkeypatch):
    monkeypatch.delitem(AMAX, "r1")
    _, report = summary()
    assert {each.name: each.reason for each in report.layers if each.is_kept} == {"second": "no range"}


def test_the_peak_of_memory_is_this_processs_and_not_its_parents():
    code = "from edgert.calibrate.report.summary import _peak_rss_bytes; print(_peak_rss_bytes())"
    ours = bytearray(600_000_000)
    ours[::4096] = bytes(len(ours[::4096]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 20e6 < int(done.stdout) < 500e6
