"""Shows which stage a calibration is in and how far: a bar on a terminal, a line a stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgert.build.progress import BuildProgress
from edgert.calibrate.report.report import StageTime


class StageProgress:
    """One stage after another, timed."""

    def __init__(
        self,
        title: str,
        bar: Callable[[str], BuildProgress] = BuildProgress,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = bar(title)
        self._clock_s = clock_s
        self.times: list[StageTime] = []

    @contextmanager
    def stage(self, name: str, steps: int = 1) -> Iterator[Callable[[], None]]:
        """Yield what is to be called after each of the steps."""
        progress, started_s, done = self._progress, self._clock_s(), 0

        def step() -> None:
            nonlocal done
            progress.step_complete(name, done)
            done += 1

        progress.phase_start(name, None, steps)
        try:
            yield step
        finally:
            progress.phase_finish(name)
            progress.close()
        self.times.append(StageTime(name, round(self._clock_s() - started_s, 2)))
