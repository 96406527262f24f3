"""The rows of the table, with quantizers that are stand-ins."""

import shutil
from functools import partial

import numpy as np
import pytest

from edgert.prepare.options import PrepareOptions
from tests.int8_bench.coco import is_good
from tests.int8_bench.comparison import OURS, Comparison
from tests.int8_bench.measured import Measured, QuantizationError
from tests.int8_bench.peers import Candidate
from tests.int8_bench.workload import Calibration, Workload, prepared, write_calibration

PREPARE = PrepareOptions(fit="none", colour="gray", scale=1 / 255)


def exact(wall_s, peak_rss_bytes, task, out, *, call_s=None):
    shutil.copyfile(task.model, out)
    task.model.write_bytes(b"written into, as some do")
    return Measured(out, task.frames, wall_s, peak_rss_bytes, call_s)


def failing(task, out):
    raise QuantizationError("status 1: opset 9")


@pytest.fixture
def workload(make_onnx, tmp_path):
    model = make_onnx(
        [("Relu", ["x"], ["y"])], {"x": ("float32", ["n", 1, 2, 2])}, {"y": ("float32", ["n", 1, 2, 2])}
    )
    images = [np.full((2, 2), value, np.uint8) for value in (10, 20, 30)]
    return Workload(
        name="tiny",
        title="Tiny",
        model=model,
        prepare=PREPARE,
        calibration=write_calibration(tmp_path / "calibration", images, PREPARE, (1, 2, 2), 3),
        held_out=prepared(images, PREPARE, (1, 2, 2)),
        batch=2,
        score=lambda reference, outputs: {"difference": float(np.abs(reference["y"] - outputs["y"]).max())},
        say=lambda found: f"off by {found['difference']:.1f}",
        limit="<= 0",
        is_met=lambda found: found["difference"] <= 0,
        size_limit_mb=0.000001,
        many_frames=Calibration(tmp_path, tmp_path / "none.npy", 500),
        has_time_limit=True,
    )


def rows_of(workload, folder, *candidates):
    return {row.figure: row for row in Comparison(workload, folder).rows(candidates)}


def test_limits_hold_for_edgert_alone(workload, tmp_path):
    peer = Candidate("modelopt, max", "modelopt", partial(exact, 5.0, 2_000_000_000))
    ours = Candidate(OURS, OURS, partial(exact, 4.0, 900_000_000))
    rows = rows_of(workload, tmp_path / "work", peer, ours)
    assert rows["Tiny, modelopt, max"].limit == rows["Tiny, modelopt, max: memory"].limit == ""
    assert rows["Tiny, edgert"][1:4] == ("off by 0.0", "<= 0", True)
    assert rows["Tiny, edgert: time"][1:4] == ("4.0 s", "<= 5.0 s", True)
    assert rows["Tiny, edgert: memory"].is_met
    assert not rows["Tiny, edgert: size"].is_met
    assert "3 frames: 4.0 s" in rows["Tiny, edgert: cost"].value


def test_slower_or_larger_than_allowed_is_missed(workload, tmp_path):
    peer = Candidate("modelopt, max", "modelopt", partial(exact, 3.0, 1))
    ours = Candidate(OURS, OURS, partial(exact, 4.0, 1_100_000_000))
    rows = rows_of(workload, tmp_path / "work", peer, ours)
    assert not rows["Tiny, edgert: time"].is_met
    assert not rows["Tiny, edgert: memory"].is_met


def test_times_are_of_whole_processes_on_both_sides(workload, tmp_path):
    peers = [
        Candidate("modelopt, max", "modelopt", partial(exact, 5.0, 1, call_s=3.5)),
        Candidate("modelopt, entropy", "modelopt", partial(exact, 7.0, 1, call_s=3.0)),
    ]
    ours = Candidate(OURS, OURS, partial(exact, 4.9, 1))
    time = rows_of(workload, tmp_path / "work", *peers, ours)["Tiny, edgert: time"]
    assert time[1:4] == ("4.9 s (modelopt's call alone: 3.0 s)", "<= 5.0 s", True)
    assert time.data == {"wall_s": 4.9, "modelopt_s": [5.0, 7.0], "modelopt_call_s": [3.5, 3.0]}


@pytest.mark.parametrize("peers", [[], [Candidate("modelopt, max", "modelopt", failing)]])
def test_without_modelopt_the_time_is_said_not_to_be_compared(workload, tmp_path, peers):
    ours = Candidate(OURS, OURS, partial(exact, 4.0, 1))
    time = rows_of(workload, tmp_path / "work", *peers, ours)["Tiny, edgert: time"]
    assert time[1:4] == ("4.0 s, not compared: modelopt made none", "", True)


@pytest.mark.parametrize(
    ("recall", "precision", "score_error", "is_met"),
    [
        (0.990, 0.995, 0.016, True),
        (0.990, 0.995, 0.0161, False),  # not rounded to what would do
        (0.9899, 0.995, 0.016, False),
        (0.990, 0.9949, 0.016, False),
    ],
)
def test_figures_of_the_detector_are_compared_as_they_are(recall, precision, score_error, is_met):
    assert is_good({"recall": recall, "precision": precision, "score_error": score_error}) == is_met


def test_a_peer_s_failure_is_reported_and_edgert_s_is_a_miss(workload, tmp_path):
    rows = rows_of(
        workload, tmp_path / "work", Candidate("peer", "onnxruntime", failing), Candidate(OURS, OURS, failing)
    )
    assert rows["Tiny, peer"][1:4] == ("failed: status 1: opset 9", "", True)
    assert not rows["Tiny, edgert"].is_met
    assert rows["Tiny, edgert: memory"][2:4] == ("<= 1.0 GB", False)


def test_the_model_of_the_cache_is_never_handed_out(workload, tmp_path):
    before = workload.model.read_bytes()
    rows_of(workload, tmp_path / "work", Candidate(OURS, OURS, partial(exact, 1.0, 1)))
    assert workload.model.read_bytes() == before


def test_frames_are_bounded_where_memory_grows_with_them(workload, tmp_path):
    bounded = Candidate("peer", "onnxruntime", partial(exact, 1.0, 1), max_frames=2)
    rows = rows_of(workload, tmp_path / "work", bounded)
    assert rows["Tiny, peer: cost"].data["frames"] == 2
    assert "Tiny, peer: memory" not in rows


def test_files_and_tensors_hold_the_same_frames(workload):
    tensors = np.load(workload.calibration.tensors)
    assert tensors == pytest.approx(workload.held_out)
    names = [path.name for path in sorted(workload.calibration.pictures.iterdir())]
    assert names == ["00000.png", "00001.png", "00002.png"]
