"""Shows which stage a calibration is in and how far: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from edgert.calibrate.report.report import StageTime

REDRAW_S = 0.1
LINE_S = 10.0  # without a terminal, between two lines of one stage
_BLOCKS = 20


class Stage:
    """One stage while it goes on."""

    def __init__(self, name: str, steps: int, on_step: Callable[[Stage], None]) -> None:
        self.name = name
        self.steps = steps  # 0: nobody knows
        self.done = 0
        self._on_step = on_step

    def __call__(self) -> None:
        """Say that one more step is done."""
        self.at(self.done + 1, self.steps)

    def at(self, done: int, steps: int) -> None:
        """Say how many steps are done, and of how many; 0: nobody knows."""
        self.done, self.steps = done, steps
        self._on_step(self)

    @property
    def share(self) -> float | None:
        """What is done of it, 0..1; None: nobody knows."""
        return min(self.done / self.steps, 1.0) if self.steps else None


class StageProgress:
    """One stage after another, timed. One thread uses it."""

    def __init__(
        self, title: str, stream: IO[str] | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._title = title
        self._stream = sys.stderr if stream is None else stream
        self._is_bar = self._stream.isatty()
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._shown_s = float("-inf")
        self.times: list[StageTime] = []  # of the stages that are over

    @contextmanager
    def stage(self, name: str, steps: int = 0) -> Iterator[Stage]:
        """Yield the stage, which wants to hear of each of its steps."""
        stage, started_s = Stage(name, steps, self._show), self._clock_s()
        self._shown_s = float("-inf")
        self._show(stage)
        try:
            yield stage
        finally:
            if self._is_bar:
                self._write("\r\x1b[K")
        self.times.append(StageTime(name, round(self._clock_s() - started_s, 2)))

    def _show(self, stage: Stage) -> None:
        now_s = self._clock_s()
        if now_s - self._shown_s < (REDRAW_S if self._is_bar else LINE_S):
            return
        self._shown_s = now_s
        elapsed_s = now_s - self._started_s
        self._write(self._bar(stage, elapsed_s) if self._is_bar else self._line(stage, elapsed_s))

    def _bar(self, stage: Stage, elapsed_s: float) -> str:
        blocks = "█" * int(_BLOCKS * (stage.share or 0.0))
        line = f"{blocks:·<{_BLOCKS}} {_far(stage):>4} {elapsed_s:5.0f} s  {self._title}: {stage.name}"
        return f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}"

    def _line(self, stage: Stage, elapsed_s: float) -> str:
        far = f" {_far(stage)}" if stage.done else ""
        return f"{self._title}: {stage.name}{far}, {elapsed_s:.1f} s\n"

    def _write(self, text: str) -> None:
        """Write, unless nobody reads any more: a calibration that took minutes does not end for that."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._is_bar = False


def _far(stage: Stage) -> str:
    return f"{stage.done:,}" if stage.share is None else f"{stage.share:.0%}"
