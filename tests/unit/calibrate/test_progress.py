"""What a person sees of a calibration while it goes on."""

from __future__ import annotations

import io
import os
import pty

import pytest

from edgert.calibrate.progress import LINE_S, REDRAW_S, StageProgress


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_than_on_a_terminal_a_stage_is_a_line():
    stream, clock = io.StringIO(), Clock()
    progress = StageProgress("coco-int8", stream, clock)
    with progress.stage("observe", 4) as stage:
        clock.now_s += 2.25
        stage()
    with progress.stage("compare", 4):
        clock.now_s += 1
    assert stream.getvalue() == "coco-int8: observe, 0.0 s\ncoco-int8: compare, 2.2 s\n"
    assert [(time.name, time.seconds) for time in progress.times] == [("observe", 2.25), ("compare", 1.0)]


def test_a_long_stage_says_every_ten_seconds_how_far_it_is():
    stream, clock = io.StringIO(), Clock()
    with StageProgress("m", stream, clock).stage("observe", 10) as stage:
        for _ in range(9):
            clock.now_s += 0.3 * LINE_S
            stage()
    assert stream.getvalue().splitlines() == [
        "m: observe, 0.0 s",
        "m: observe 40%, 12.0 s",
        "m: observe 80%, 24.0 s",
    ]


def test_a_source_whose_length_nobody_knows_is_counted():
    stream, clock = io.StringIO(), Clock()
    with StageProgress("m", stream, clock).stage("sample frames") as stage:
        clock.now_s += LINE_S
        stage.at(1200, 0)
        clock.now_s += LINE_S
        stage.at(1500, 2000)
    assert stream.getvalue().splitlines()[1:] == [
        "m: sample frames 1,200, 10.0 s",
        "m: sample frames 75%, 20.0 s",
    ]


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    stream, clock = Terminal(), Clock()
    with StageProgress("m", stream, clock).stage("observe", 2) as stage:
        stage()
        clock.now_s += 2 * REDRAW_S
        stage.at(1, 2)
    drawn = stream.getvalue().split("\r\x1b[K")
    assert drawn == [
        "",
        f"{'·' * 20}   0%     0 s  m: observe",
        f"{'█' * 10}{'·' * 10}  50%     0 s  m: observe",
        "",
    ]


def test_the_bar_is_no_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    with StageProgress("a-model-with-a-long-name", stream).stage("keep layers in float", 3):
        pass
    assert max(len(line) for line in stream.getvalue().split("\r\x1b[K")) == 29


def test_a_real_terminal_gets_the_bar():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, StageProgress("m", stream).stage("observe", 2):
        pass
    assert b"0 s  m: observe" in os.read(ours, 1000)
    os.close(ours)


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_reader_that_has_gone_ends_nothing(kind):
    stream = kind()
    progress = StageProgress("m", stream)
    stream.close()
    with progress.stage("observe", 2) as stage:
        stage()
    assert [time.name for time in progress.times] == ["observe"]


def test_a_stage_that_failed_is_not_timed():
    progress = StageProgress("m", io.StringIO())
    with pytest.raises(KeyboardInterrupt), progress.stage("observe", 2):
        raise KeyboardInterrupt
    assert progress.times == []
