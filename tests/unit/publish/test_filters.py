"""What of all results a sink publishes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgert.frames.result import Classes, Detections, Result, Tensors, label_of
from edgert.publish.filters import FilterOptions, ResultFilter

LABELS = ["cat", "dog", "car", "cat"]  # two classes may share a label
MS = 1_000_000


def detections(indices, scores=None, points=0):
    count = len(indices)
    scores = np.linspace(0.9, 0.1, count) if scores is None else scores
    boxes = np.arange(4 * count, dtype="f4").reshape(count, 4)
    landmarks = np.arange(2.0 * points * count).reshape(count, points, 2) if points else None
    return Detections(boxes, np.array(scores, "f4"), np.array(indices, "i8"), LABELS, landmarks)


def classes(indices, scores):
    return Classes(np.array(scores, "f4"), np.array(indices, "i8"), LABELS)


def result(output, at_ms=0, **fields):
    values = {"source": "porch", "seq": 0, "model": "detector", "version": 1, "width": 640, "height": 480}
    times = {"captured_utc_ns": 1_000, "captured_mono_ns": at_ms * MS}
    return Result(output=output, **{**values, **times, **fields})


def passes(chosen, times_ms, output=None):
    """Return those of the capture times whose results are published."""
    output = detections([0]) if output is None else output
    return [at_ms for at_ms in times_ms if chosen(result(output, at_ms)) is not None]


def test_the_defaults_publish_all_as_it_is():
    chosen = ResultFilter(FilterOptions())
    for output in (detections([0, 1]), detections([]), classes([1], [0.5]), Tensors({"o": np.ones(2)})):
        made = result(output)
        assert chosen(made) is made
    assert chosen.left_out.total() == chosen.trimmed.total() == 0


@pytest.mark.parametrize(
    ("options", "published", "reason"),
    [
        ({"models": ("detector", "other")}, True, None),
        ({"models": ("other",)}, False, "model"),
        ({"sources": ("porch",)}, True, None),
        ({"sources": ("yard",)}, False, "source"),
        ({"sources": ("yard",), "models": ("other",)}, False, "model"),
    ],
    ids=str,
)
def test_models_and_sources(options, published, reason):
    chosen = ResultFilter(FilterOptions(**options))
    assert (chosen(result(detections([0]))) is not None) == published
    assert chosen.left_out.snapshot() == ({reason: 1} if reason else {})


def test_labels_and_scores_choose_rows_of_all_arrays_together():
    chosen = ResultFilter(FilterOptions(labels=("cat", "7"), score_min=0.3))
    before = detections([0, 1, 3, 7, 0], [0.9, 0.8, 0.7, 0.6, 0.2], points=3)
    made = result(before, seq=5)
    after = chosen(made)
    kept = [0, 2, 3]
    assert after.output.class_indices.tolist() == [0, 3, 7]
    assert np.array_equal(after.output.boxes_xyxy_px, before.boxes_xyxy_px[kept])
    assert np.array_equal(after.output.scores, before.scores[kept])
    assert np.array_equal(after.output.landmarks_xy_px, before.landmarks_xy_px[kept])
    assert after.output.labels is LABELS
    assert [getattr(after, name) for name in after.__struct_fields__ if name != "output"] == [
        getattr(made, name) for name in made.__struct_fields__ if name != "output"
    ]
    assert made.output is before
    assert len(before.scores) == 5
    assert chosen.trimmed.snapshot() == {"label": 1, "score": 1}
    assert chosen.left_out.total() == 0


def test_classes_are_chosen_likewise():
    chosen = ResultFilter(FilterOptions(labels=("dog", "car"), score_min=0.5))
    after = chosen(result(classes([1, 0, 2], [0.7, 0.6, 0.1])))
    assert isinstance(after.output, Classes)
    assert (after.output.class_indices.tolist(), after.output.labels) == ([1], LABELS)


def test_a_score_of_just_the_minimum_stays_and_nan_goes():
    chosen = ResultFilter(FilterOptions(score_min=0.7))
    after = chosen(result(detections([0, 1, 2], [np.nan, 0.7, 0.6999])))
    assert after.output.class_indices.tolist() == [1]
    assert chosen.trimmed["score"] == 2


def test_a_result_of_which_nothing_stays_is_published_empty():
    after = ResultFilter(FilterOptions(labels=("car",)))(result(detections([0, 1], points=2)))
    assert after.output.boxes_xyxy_px.shape == (0, 4)
    assert after.output.landmarks_xy_px.shape == (0, 2, 2)


@pytest.mark.parametrize("output", [detections([0]), classes([0], [0.9]), detections([])], ids=str)
def test_skip_empty_leaves_out_what_has_nothing_left(output):
    chosen = ResultFilter(FilterOptions(labels=("car",), skip_empty=True))
    assert chosen(result(output)) is None
    assert chosen.left_out.snapshot() == {"empty": 1}
    assert chosen(result(detections([2]))) is not None


def test_tensors_pass_all_but_the_pace():
    options = FilterOptions(
        labels=("car",), score_min=0.9, skip_empty=True, on_change=True, frames_per_s=10, heartbeat_s=60
    )
    chosen = ResultFilter(options)
    made = result(Tensors({"out": np.zeros(3)}))
    assert chosen(made) is made
    assert passes(chosen, [50, 100, 200], made.output) == [100, 200]
    assert chosen.left_out.snapshot() == {"rate": 1}


@pytest.mark.parametrize(
    ("per_s", "count"), [(10, 100), (15, 150), (20, 200), (29.9, 299), (30, 300), (60, 300)]
)
def test_any_pace_is_kept_with_a_camera_that_jitters(per_s, count):
    times_ms = [round(i * 1000 / 30) + (0, 3, -3, 1)[i % 4] for i in range(300)]
    assert abs(len(passes(ResultFilter(FilterOptions(frames_per_s=per_s)), times_ms)) - count) <= 1


def test_a_pause_is_not_made_up_for():
    chosen = ResultFilter(FilterOptions(frames_per_s=10))
    times_ms = [0, 50, 89, 1000, 1010, 1089, 1090, 1189, 1190, 1200]
    assert passes(chosen, times_ms) == [0, 1000, 1090, 1190]
    assert chosen.left_out.snapshot() == {"rate": 6}


def test_a_pace_can_be_slower_than_one_a_second():
    assert passes(ResultFilter(FilterOptions(frames_per_s=0.5)), range(0, 6001, 500)) == [0, 2000, 4000, 6000]


def test_each_source_and_model_has_its_own_pace():
    chosen = ResultFilter(FilterOptions(frames_per_s=1))
    for fields in ({}, {"source": "yard"}, {"model": "other"}):
        assert chosen(result(detections([0]), 0, **fields)) is not None
        assert chosen(result(detections([0]), 1, **fields)) is None


def test_a_capture_before_the_clock_began_is_paced_too():
    assert passes(ResultFilter(FilterOptions(frames_per_s=1)), [-5000, -4500, -4000]) == [-5000, -4000]


def test_only_what_is_published_uses_the_pace_up():
    chosen = ResultFilter(FilterOptions(frames_per_s=1, skip_empty=True))
    assert passes(chosen, [0, 100], detections([])) == []
    assert passes(chosen, [200]) == [200]


def test_on_change_compares_labels_and_their_numbers():
    chosen = ResultFilter(FilterOptions(on_change=True))
    steps = [
        ([0, 1], True),
        ([1, 0], False),  # another order
        ([3, 1], False),  # another class of the same label
        ([0, 0, 1], True),
        ([0, 1], True),
        ([], True),
        ([], False),
    ]
    for indices, published in steps:
        assert (chosen(result(detections(indices))) is not None) == published, indices
    assert chosen.left_out.snapshot() == {"unchanged": 3}


def test_on_change_sees_only_what_would_be_published():
    chosen = ResultFilter(FilterOptions(on_change=True, labels=("cat",)))
    assert chosen(result(detections([0, 1]))) is not None
    assert chosen(result(detections([0, 1, 2]))) is None
    assert chosen(result(classes([1], [0.9]))) is not None


def test_each_source_and_model_changes_for_itself():
    chosen = ResultFilter(FilterOptions(on_change=True))
    for fields in ({}, {"source": "yard"}, {"model": "other"}):
        assert chosen(result(detections([0]), **fields)) is not None
        assert chosen(result(detections([0]), **fields)) is None


def test_the_heartbeat_counts_from_what_was_published_last():
    chosen = ResultFilter(FilterOptions(on_change=True, heartbeat_s=1))
    assert passes(chosen, [0, 500, 999, 1000, 1500, 2000]) == [0, 1000, 2000]
    assert passes(chosen, [2600], detections([1])) == [2600]
    assert passes(chosen, [3000, 3599, 3600], detections([1])) == [3600]


def test_a_change_that_the_pace_holds_back_is_published_later():
    chosen = ResultFilter(FilterOptions(on_change=True, frames_per_s=1))
    assert passes(chosen, [0]) == [0]
    assert passes(chosen, [500, 1000, 1100], detections([1])) == [1000]
    assert chosen.left_out.snapshot() == {"rate": 2}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"labels": []}, "length >= 1"),
        ({"score_min": 1.1}, "<= 1"),
        ({"frames_per_s": -1}, ">= 0"),
        ({"heartbeat_s": 5}, "heartbeat_s needs on_change"),
        ({"label": ["cat"]}, "unknown field"),
    ],
    ids=str,
)
def test_refused_tables(table, fault):
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(table, FilterOptions)


def test_a_table_as_it_stands_in_a_file():
    table = {"labels": ["cat"], "score_min": 0.5, "on_change": True, "heartbeat_s": 10}
    options = msgspec.convert(table, FilterOptions)
    assert options == FilterOptions(labels=("cat",), score_min=0.5, on_change=True, heartbeat_s=10.0)


@given(
    rows=st.lists(st.tuples(st.integers(-1, 6), st.floats(width=32)), max_size=12),
    wanted=st.none() | st.sets(st.sampled_from(["cat", "dog", "car", "5", "-1"]), min_size=1),
    score_min=st.floats(0, 1),
)
def test_a_filter_keeps_just_the_wanted_rows_in_their_order(rows, wanted, score_min):
    before = detections([index for index, _ in rows], [score for _, score in rows], points=1)
    chosen = ResultFilter(FilterOptions(labels=wanted and tuple(wanted), score_min=score_min))
    after = chosen(result(before)).output
    kept = [
        row
        for row, (index, score) in enumerate(rows)
        if (wanted is None or label_of(LABELS, index) in wanted)
        and (not score_min or np.float32(score) >= np.float32(score_min))
    ]
    assert np.array_equal(after.boxes_xyxy_px, before.boxes_xyxy_px[kept])
    assert np.array_equal(after.scores, before.scores[kept], equal_nan=True)
    assert np.array_equal(after.class_indices, before.class_indices[kept])
    assert np.array_equal(after.landmarks_xy_px, before.landmarks_xy_px[kept])
    assert chosen.trimmed.total() == len(rows) - len(kept)


@given(
    times_ms=hnp.arrays("i8", st.integers(1, 60), elements=st.integers(0, 5000)).map(sorted),
    per_s=st.sampled_from([0.5, 1, 3, 10, 1000]),
)
def test_no_second_has_many_more_than_the_pace(times_ms, per_s):
    kept = passes(ResultFilter(FilterOptions(frames_per_s=per_s)), times_ms)
    assert kept[0] == times_ms[0]
    for first in range(len(kept)):
        for last in range(first, len(kept)):
            span_s = (kept[last] - kept[first]) / 1000
            assert last - first + 1 <= span_s * per_s + 2.25
