"""A whole line in the test's process: an Assembly run as the service runs it, without signals."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from edgert.pipeline.assembly import Assembly
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.report import Report

WAIT_S = 30.0  # real seconds before a test gives up
DRAIN_S = 20.0


class Line:
    """Opens everything on entry, closes it on exit. It is the Observer of its own Assembly."""

    def __init__(self, file: PipelineFile) -> None:
        self.file = file
        self.assembly = Assembly(file, "boot", self)
        self.model_states = []  # (model, ModelState), as they came
        self._changed = threading.Condition()
        self._source_states = {}
        self._undo = ExitStack()

    def __enter__(self):
        with ExitStack() as undo:
            self.assembly.open_device(undo)
            self.assembly.open_sinks(undo)
            self.assembly.open_line(undo)
            self.assembly.open_sources(undo)
            undo.callback(self.assembly.models.close)
            self.assembly.load_models()
            self.assembly.let_frames_in()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.assembly.drain(DRAIN_S)
        self._undo.close()

    @property
    def models(self):
        return self.assembly.models

    def source_changed(self, source, state, reason) -> None:
        with self._changed:
            self._source_states[source] = state
            self._changed.notify_all()

    def device_lost(self, error):
        self.lost = error

    def model_changed(self, model, state) -> None:
        with self._changed:
            self.model_states.append((model, state))
            self._changed.notify_all()

    def wait_state(self, source: str, state: str) -> None:
        """Wait until a source is in this state."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self._source_states.get(source) == state, WAIT_S)
        assert reached, f"Source {source} is {self._source_states.get(source)}, not {state}."

    def finish(self) -> Report:
        """Wait until every source has ended and every frame has left; return all counts."""
        for source in self.file.options.sources:
            self.wait_state(source, "ended")
        return self.drain()

    def drain(self) -> Report:
        """Take no more frames, let those admitted finish, return all counts."""
        assert self.assembly.drain(DRAIN_S), "Frames were still on their way."
        return self.assembly.report()


def run(file: PipelineFile) -> Report:
    """Run a line whose sources end to its end; its sinks have written everything on return."""
    with Line(file) as line:
        return line.finish()


def demand_conservation(report: Report) -> None:
    """Check that every captured frame is accounted for, at every source and every model."""
    for name, source in report.sources.items():
        taken = source.frames - sum(source.refused.values())
        for model, link in source.models.items():
            assert link.admitted == taken, (name, model, source)
            assert link.admitted == link.published + sum(link.dropped.values()), (name, model, link)
            assert link.latency.count == link.published
        assert source.slots.used <= (
            source.state != "ended"
        )  # an open source holds a slot for its next frame
