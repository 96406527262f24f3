"""The process around a pipeline: start, serve, drain, stop."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import msgspec

from edgert import __version__
from edgert.capture.state import SourceState
from edgert.device.heap import return_large_blocks
from edgert.errors import ConfigError, DeviceLostError, EdgertError, ModelError
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.pipeline.assembly import Assembly
from edgert.pipeline.changes import Changes
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.model_set import ModelState
from edgert.pipeline.report import Report
from edgert.publish import topics
from edgert.schedule.turns import SHORT_TURN_S

log = logging.getLogger(__name__)

Event = Literal["stop", "reload", "ended", "lost", "done"]

_WHY = {"stop": "asked to", "ended": "every source has ended", "lost": "the device is lost"}


class Service:
    """Runs one pipeline file. Signals and sources put events; the main thread handles them in order."""

    def __init__(self, file: PipelineFile, report_file: Path | None = None) -> None:
        self._file = file
        self._report_file = report_file  # where the last counts go, as JSON
        self._options = file.options.service
        self.is_device_lost = False  # after `run`: end the process at once, a driver may wait for ever
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._stops_asked = 0
        self._is_stopping = False
        self._is_born = False
        self._assembly = Assembly(file, boot=os.urandom(8).hex(), observer=self)
        self._changes = Changes(file, self._assembly, lambda: self._events.put("stop"))

    def run(self) -> ExitCode:
        """Start, serve until stopped or until every source has ended, stop. Raises EdgertError."""
        sys.setswitchinterval(SHORT_TURN_S)
        return_large_blocks()
        self._check_report_file()
        with ExitStack() as undo:
            self._install_signals(undo)
            if not self._start(undo):
                return ExitCode.OK
            event = self._serve()
            is_drained = self._drain()
            report = self._assembly.report()
        # Only a closed sink has sent all that it ever will.
        self._write(msgspec.structs.replace(report, sinks=self._assembly.sink_report()))
        if event in ("ended", "lost") and (failure := self._assembly.failure()) is not None:
            return exit_code_of(failure) if isinstance(failure, EdgertError) else ExitCode.BUG
        return ExitCode.OK if is_drained else ExitCode.WORK_LOST

    # What the parts report; called on their threads.

    def source_changed(self, source: str, state: SourceState, reason: str) -> None:
        """Announce a source's new state; its capture has logged it."""
        self._announce(topics.source_state(source), self._assembly.source_report(source))
        if state == "ended" and self._assembly.have_all_ended():
            self._events.put("ended")

    def device_lost(self, error: DeviceLostError) -> None:
        """Stop: systemd starts a new process."""
        log.error("%s", error)
        self.is_device_lost = True
        self._events.put("lost")

    def model_changed(self, model: str, state: ModelState) -> None:
        """Log and announce a model's new state."""
        log.info("model %s is %s%s", model, state.state, f": {state.reason}" if state.reason else "")
        self._announce(topics.model_state(model), state)
        if self._is_born:
            self._assembly.describe()  # its labels may be others

    # What the HTTP front asks.

    def is_ready(self) -> bool:
        """Every model is loaded and nothing stops."""
        return not self._is_stopping and self._assembly.is_ready()

    def report(self) -> dict[str, Any]:
        """Return all counts."""
        tree: dict[str, Any] = msgspec.to_builtins(self._assembly.report())
        return tree

    def index(self) -> list[dict[str, str]]:
        """Return models in the form of the Inference Server's repository index."""
        return [
            {"name": name, "version": str(version), "state": state.state, "reason": state.reason}
            for name, state in dict(self._assembly.models.states).items()
            for version in state.versions or ("",)
        ]

    def load(self, model: str) -> None:
        """Load or reload one of the pipeline's models; see `Changes`."""
        self._changes.load(model)

    def unload(self, model: str) -> None:
        """Unload a model; see `Changes`."""
        self._changes.unload(model)

    def allocations(self) -> dict[str, Any]:
        """Return who holds how much memory, and the newest allocations and releases."""
        tree: dict[str, Any] = msgspec.to_builtins(self._assembly.allocations())
        return tree

    # The three calls that `run` makes.

    def _start(self, undo: ExitStack) -> bool:
        """Open everything; False if a stop was asked for before it was done."""
        started = time.monotonic()
        self._assembly.open_device(undo)
        self._assembly.open_sinks(undo)
        self._announce_state("init")
        self._assembly.open_line(undo)
        self._open_http(undo)
        self._assembly.open_sources(undo)
        if not self._load_models(undo):
            return False
        self._announce_birth()
        self._assembly.describe()
        self._is_born = True
        self._assembly.let_frames_in()
        self._assembly.open_commands(undo, self._changes)
        self._announce_state("ready")
        log.info("ready after %.2f s", time.monotonic() - started)
        gc.collect()
        gc.freeze()  # what is loaded now stays; later collections need not look at it
        return True

    def _load_models(self, undo: ExitStack) -> bool:
        """Load on another thread, so that a stop is heard; an engine may take minutes."""
        undo.callback(self._assembly.models.close, self._options.drain_s)
        failures: list[EdgertError] = []
        self._in_background(lambda: _kept(self._assembly.load_models, failures))
        later: list[Event] = []
        while (event := self._events.get()) != "done":
            if event == "stop":
                log.info("stopping before the models are loaded")
                return False
            later.append(event)
        for failure in failures:
            raise failure
        for event in later:
            self._events.put(event)
        return True

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do slow work on a thread of its own; the event `done` follows."""

        def work_and_tell() -> None:
            work()
            self._events.put("done")

        threading.Thread(target=work_and_tell, name="load", daemon=True).start()

    def _open_http(self, undo: ExitStack) -> None:
        http = self._file.options.http
        if http is None:
            return
        from edgert.serve.health import HttpServer  # 15 ms and 2 MB that most boards need not pay

        server = HttpServer(http.host, http.port, self, control=http.control)
        log.info("http: health and metrics at %s", server.open())
        undo.callback(server.close)

    def _serve(self) -> Event:
        """Handle events until one of them ends the service; returns that."""
        while True:
            event = self._next_event()
            if event == "reload":
                self._in_background(self._reload)
            elif event is None:
                self._publish_stats()
            elif event != "done":
                log.info("stopping: %s", _WHY[event])
                return event

    def _drain(self) -> bool:
        self._is_stopping = True
        self._announce_state("draining")
        is_drained = self._assembly.drain(self._options.drain_s)
        if not is_drained:
            log.warning("not all frames were answered within drain_s = %s", self._options.drain_s)
        self._publish_stats()
        for source in self._file.options.sources:
            last = self._assembly.source_report(source)
            stopped = msgspec.structs.replace(last, state="offline", reason="the node stops")
            self._announce(topics.source_state(source), stopped)
        return is_drained

    def _check_report_file(self) -> None:
        if self._report_file is not None and not self._report_file.parent.is_dir():
            raise ConfigError(f"--report {self._report_file}: there is no folder {self._report_file.parent}")

    def _write(self, report: Report) -> None:
        if self._report_file is None:
            return
        try:
            self._report_file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        except OSError as error:
            raise ConfigError(f"--report {self._report_file}: cannot be written: {error.strerror}") from error

    def _next_event(self) -> Event | None:
        """Return the next event, or None when statistics are due."""
        try:
            return self._events.get(timeout=self._options.stats_s or None)
        except Empty:
            return None

    def _reload(self) -> None:
        """Reload every model; what fails has been logged."""
        with suppress(ModelError):
            self._changes.reload_all()

    def _install_signals(self, undo: ExitStack) -> None:
        handlers = {
            signal.SIGTERM: self._ask_stop,
            signal.SIGINT: self._ask_stop,
            signal.SIGHUP: self._ask_reload,
        }
        for number, handler in handlers.items():
            undo.callback(signal.signal, number, signal.signal(number, handler))
        undo.callback(setattr, threading, "excepthook", threading.excepthook)
        threading.excepthook = _end_process

    def _ask_stop(self, *_: object) -> None:
        self._stops_asked += 1
        if self._stops_asked > 1:
            os._exit(ExitCode.WORK_LOST)  # the broker sends the will
        self._events.put("stop")

    def _ask_reload(self, *_: object) -> None:
        self._events.put("reload")

    # What subscribers hear.

    def _publish_stats(self) -> None:
        payload = msgspec.json.encode(self._assembly.report())
        for announcer in self._assembly.announcers:
            announcer.publish(topics.STATS, payload)

    def _announce_state(self, state: Literal["init", "ready", "draining"]) -> None:
        for announcer in self._assembly.announcers:
            announcer.publish_state(state)

    def _announce(self, topic: str, body: Any) -> None:
        payload = msgspec.json.encode(body)
        for announcer in self._assembly.announcers:
            announcer.publish_retained(topic, payload)

    def _announce_birth(self) -> None:
        options = self._file.options
        birth = {
            "node": options.node,
            "boot": self._assembly.boot,
            "started_utc_ns": time.time_ns(),
            "versions": {"edgert": __version__, "python": sys.version.split()[0]},
            "device": self._assembly.device_attributes(),
            "models": self._assembly.runtimes(),
            "sources": {name: list(source.models) for name, source in options.sources.items()},
        }
        for announcer in self._assembly.announcers:
            announcer.publish_birth(lambda session: msgspec.json.encode({**birth, "session": session}))


def _kept(work: Callable[[], None], failures: list[EdgertError]) -> None:
    """Do the work, and keep what it raises for the thread that waits."""
    try:
        work()
    except EdgertError as error:
        failures.append(error)


def _end_process(failure: threading.ExceptHookArgs) -> None:
    """End the process when one of its threads has: the others would wait for it for ever."""
    name = failure.thread.name if failure.thread else "?"
    exception = failure.exc_value
    log.critical("thread %s ended by an error that edgert did not foresee", name, exc_info=exception)
    logging.shutdown()
    os._exit(ExitCode.BUG)  # the broker sends the will, systemd starts us again
