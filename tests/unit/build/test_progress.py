"""How far a build is, and how it is ended."""

from __future__ import annotations

import io
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from edgert.build.progress import REDRAW_S, BuildProgress, open_monitor, run_cancellable


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_a_step_counts_by_what_is_done_inside_it():
    progress = BuildProgress("coco", io.StringIO())
    assert progress.fraction() == 0.0
    progress.phase_start("build", None, 4)
    assert progress.step_complete("build", 0)
    assert progress.fraction() == 0.25
    progress.phase_start("tactics", "build", 2)
    progress.step_complete("tactics", 0)
    assert progress.fraction() == 0.375
    progress.phase_start("layers", "tactics", 10)
    progress.step_complete("layers", 4)
    assert progress.fraction() == 0.4375
    progress.phase_finish("layers")
    progress.phase_finish("tactics")
    progress.step_complete("build", 1)
    assert progress.fraction() == 0.5


def test_a_phase_beside_the_build_is_shown_until_it_ends():
    """Calibration is none of the builder's phases."""
    progress = BuildProgress("coco", io.StringIO())
    progress.phase_start("build", None, 4)
    progress.step_complete("build", 0)
    progress.phase_start("calibrate", None, 2)
    progress.step_complete("calibrate", 0)
    assert progress.fraction() == 0.5
    progress.phase_finish("calibrate")
    assert progress.fraction() == 0.25
    progress.phase_finish("build")
    assert progress.fraction() == 0.25  # the last one stays


def test_what_the_builder_says_out_of_order_breaks_nothing():
    progress = BuildProgress("coco", io.StringIO())
    assert progress.step_complete("unknown", 3)
    progress.phase_finish("unknown")
    progress.phase_start("build", "unknown", 0)
    progress.step_complete("build", 7)
    assert progress.fraction() == 1.0


def test_a_terminal_has_a_bar_that_is_not_drawn_too_often_and_goes():
    stream, clock = Terminal(), Clock()
    progress = BuildProgress("coco", stream, clock)
    progress.phase_start("build", None, 2)
    assert "····················   0%     0 s  coco: build" in stream.getvalue()
    progress.step_complete("build", 0)
    assert "50%" not in stream.getvalue()
    clock.now_s += REDRAW_S + 3
    progress.step_complete("build", 0)
    assert "██████████··········  50%     3 s  coco: build" in stream.getvalue()
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_elsewhere_there_is_a_line_for_each_phase_near_the_top():
    stream, clock = io.StringIO(), Clock()
    progress = BuildProgress("coco", stream, clock)
    progress.phase_start("build", None, 2)
    clock.now_s += 1.5
    progress.phase_start("tactics", "build", 2)
    progress.phase_start("layers", "tactics", 2)
    progress.close()
    assert stream.getvalue() == "coco: build, 0.0 s\ncoco: tactics, 1.5 s\n"


def test_a_reader_that_has_gone_does_not_end_the_build():
    stream = io.StringIO()
    progress = BuildProgress("coco", stream)
    stream.close()
    progress.phase_start("build", None, 2)
    assert progress.step_complete("build", 0)


def test_a_cancelled_build_ends_at_its_next_step():
    stream = io.StringIO()
    progress = BuildProgress("coco", stream)
    progress.phase_start("build", None, 3)
    assert progress.step_complete("build", 0)
    progress.cancel()
    progress.cancel()
    assert not progress.step_complete("build", 1)
    assert stream.getvalue().count("coco: ends at the builder's next step\n") == 1


def test_the_monitor_of_a_runtime_tells_the_progress():
    class Base:
        made = 0

        def __init__(self):
            Base.made += 1

    progress = BuildProgress("coco", io.StringIO())
    monitor = open_monitor(SimpleNamespace(IProgressMonitor=Base), progress)
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0)
    assert (progress.fraction(), Base.made) == (0.5, 1)
    monitor.phase_finish("build")
    progress.cancel()
    assert not monitor.step_complete("build", 1)


def test_work_is_done_on_another_thread_and_its_errors_come_back():
    progress = BuildProgress("coco", io.StringIO())
    assert run_cancellable(threading.get_ident, progress) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        run_cancellable(lambda: 1 // 0, progress)


def test_ctrl_c_cancels_and_waits_for_the_end():
    progress = BuildProgress("coco", io.StringIO())
    ended = threading.Event()

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        while progress.step_complete("build", 0):
            threading.Event().wait(0.001)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        run_cancellable(work, progress)
    assert progress.is_cancelled
    assert ended.is_set()
