"""What the demo prints and draws."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.demo.demo import _describe_device
from edgert.demo.snapshots import draw
from edgert.demo.table import counted, make_table
from edgert.demo.watch import describe

LINK = {
    "published": 20,
    "dropped": {"superseded": 12345, "no_slot": 123, "stale": 12},
    "latency": {"p50_ms": 5.0, "p99_ms": 1234.5, "max_ms": 12345.6},
}
SOURCE = {
    "frames": 20,
    "refused": {"frame_error": 3},
    "models": {"classify": LINK},
    "copies": {"host_to_host": {"copies": 20, "bytes": 20_000}, "host_to_device": {"copies": 0, "bytes": 0}},
}
STATS = {
    "sources": {"requests": SOURCE},
    "stage_cpu_s": {"capture": 0.1, "lane": 2.0, "decode": 0.5},
    "pss_bytes": 2**20,
    "memory": {"peak_bytes": 2**20},
}


def test_table_is_narrow_and_whole():
    lines = make_table(STATS, 10.0).splitlines()
    assert max(map(len, lines)) < 120
    assert lines[2].split()[:5] == ["requests", "classify", "20", "20", "2.0"]
    assert lines[2].endswith(" 12483")
    assert [line.split()[2:] for line in lines[7:11]] == [
        ["12345", "superseded"],
        ["123", "no_slot"],
        ["12", "stale"],
        ["3", "frame_error"],
    ]
    assert lines[14].split() == ["requests", "host_to_host", "1.00", "1"]
    assert lines[-1] == "CPU seconds by stage: lane 2.00, decode 0.50, capture 0.10"


def test_table_without_copies_says_so():
    source = {**SOURCE, "copies": {}}
    assert "no pixels were copied" in make_table({**STATS, "sources": {"requests": source}}, 10.0)


def test_one_is_no_plural():
    assert [counted(count, "result") for count in (0, 1, 2)] == ["0 results", "1 result", "2 results"]
    assert _describe_device({"machine": "x86_64", "cores": 1}) == "x86_64, 1 core"
    assert _describe_device({"machine": "x86_64", "cores": 2}) == "x86_64, 2 cores"


def test_nothing_found_is_a_dash():
    result = {
        "captured_utc_ns": 0,
        "source": "s",
        "seq": 0,
        "model": "m",
        "latency_ms": 1.0,
        "detections": [],
    }
    assert describe(result).endswith(" ms  -")


@pytest.mark.parametrize("box", [[0, 0, 20, 20], [380, 80, 399, 99], [-50, -50, 500, 500], [300, 0, 399, 99]])
def test_a_label_lies_in_the_picture(box):
    """On a black picture its box is the only thing that is filled, and 13 px or more high."""
    picture = np.zeros((100, 400, 3), np.uint8)
    item = {"label": "cat", "score": 0.9, "class_index": 0, "box_xyxy_px": box}
    draw(picture, {"detections": [item]})
    colour = (picture == (60, 200, 60)).all(axis=2)
    filled = colour[:, 1:-1] & colour[:, :-2] & colour[:, 2:]
    assert (filled.sum(axis=1) > 20).sum() >= 13


def test_unlikely_classes_are_not_drawn():
    picture = np.zeros((100, 400, 3), np.uint8)
    draw(picture, {"classes": [{"label": "cat", "score": 0.049, "class_index": 0}]})
    assert not picture.any()
