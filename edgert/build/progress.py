"""Shows how far a build is: a bar on a terminal, plain lines elsewhere; and stops it on request."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

T = TypeVar("T")

REDRAW_S = 0.1
_LINE_DEPTH = 2  # without a terminal: a line for the build and for each phase directly below it


class _Phase:
    """One phase of the builder, which may hold others."""

    def __init__(self, name: str, steps: int, parent: _Phase | None) -> None:
        self.name = name
        self.steps = max(steps, 1)
        self.done = 0
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 1


class BuildProgress:
    """Follows the builder's phases. The builder calls from any of its threads, several phases at once."""

    def __init__(
        self, title: str, stream: IO[str] | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._title = title
        self._stream = sys.stderr if stream is None else stream
        self._is_bar = self._stream.isatty()
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._drawn_s = float("-inf")
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._root: _Phase | None = None
        self._cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Somebody asked for the end of the build."""
        return self._cancelled

    def cancel(self) -> None:
        """End the build at its next step, which may take a while. Allowed again, from any thread."""
        was_cancelled, self._cancelled = self._cancelled, True
        if not was_cancelled:
            self._write(f"\n{self._title}: ends at the builder's next step\n")

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """Note that a phase of so many steps begins, inside another one or not."""
        with self._lock:
            phase = _Phase(name, steps, self._phases.get(parent or ""))
            self._phases[name] = phase
            self._root = self._root if phase.parent else phase
            if not self._is_bar and phase.depth <= _LINE_DEPTH:
                self._write(f"{self._title}: {name}, {self._clock_s() - self._started_s:.1f} s\n")
            self._draw(phase)

    def step_complete(self, name: str, step: int) -> bool:
        """Note that a step, counted from 0, is done; return whether the build goes on."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = max(phase.done, min(step + 1, phase.steps))
                self._draw(phase)
        return not self._cancelled

    def phase_finish(self, name: str) -> None:
        """Note that a phase is over. Its part of its parent counts when the parent says so."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is self._root:
                around = [each for each in self._phases.values() if each.parent is None]
                self._root = around[-1] if around else phase

    def fraction(self) -> float:
        """Return how much of the build is done, 0 to 1, as far as the builder's phases tell."""
        with self._lock:
            return self._fraction(self._root)

    def close(self) -> None:
        """Remove the bar."""
        if self._is_bar:
            self._write("\r\x1b[K")

    def _fraction(self, phase: _Phase | None) -> float:
        """Return the part done of a phase; its current step counts by what is done inside it."""
        if phase is None:
            return 0.0
        inner = max((self._fraction(child) for child in self._children(phase)), default=0.0)
        return min((phase.done + inner) / phase.steps, 1.0)

    def _children(self, phase: _Phase) -> list[_Phase]:
        return [child for child in self._phases.values() if child.parent is phase]

    def _draw(self, phase: _Phase) -> None:
        now_s = self._clock_s()
        if not self._is_bar or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        part = self._fraction(self._root)
        blocks = "█" * int(20 * part)
        line = f"{blocks:·<20} {part:4.0%} {now_s - self._started_s:5.0f} s  {self._title}: {phase.name}"
        self._write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")

    def _write(self, text: str) -> None:
        """Write, unless nobody reads any more: a build that took minutes does not end for that."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._is_bar = False


def open_monitor(module: Any, progress: BuildProgress) -> Any:
    """Return the runtime's `IProgressMonitor` that tells `progress`. An exception in it ends the build."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

    return Monitor()


def run_cancellable(work: Callable[[], T], progress: BuildProgress) -> T:
    """Run `work` on a thread of its own, so that Ctrl-C reaches this one; then cancel it and wait for it.

    Raises:
        KeyboardInterrupt: after the work has ended.
    """
    turn = _Turn(progress)
    with ThreadPoolExecutor(1, "builder") as pool:
        try:
            return pool.submit(turn.take, work).result()
        except KeyboardInterrupt:
            progress.cancel()
            turn.wait_for_end()
            raise
        finally:
            progress.close()


class _Turn:
    """Whether the work runs. The pool cannot tell if it was interrupted while it started its thread."""

    def __init__(self, progress: BuildProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._has_begun = False
        self._ended = threading.Event()

    def take(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._progress.is_cancelled:
                raise KeyboardInterrupt
            self._has_begun = True
        try:
            return work()
        finally:
            self._ended.set()

    def wait_for_end(self) -> None:
        """Return once the work has ended, or will never begin. The progress was cancelled before."""
        with self._lock:
            if not self._has_begun:
                return
        self._ended.wait()
