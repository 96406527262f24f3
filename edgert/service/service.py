"""The process: its signals, and what follows from them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from edgert.device.heap import return_large_blocks
from edgert.errors import ConfigError, DeviceLostError, EdgertError
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.logs import set_up_logging
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.report import Report
from edgert.schedule.turns import SHORT_TURN_S
from edgert.service.line import Event, Line
from edgert.service.notify import Notifier
from edgert.service.reload import Reload
from edgert.service.supervisor import Supervisor

log = logging.getLogger(__name__)

_WHY = {"stop": "asked to", "ended": "every source has ended", "lost": "the device is lost"}
_LONGEST_WAIT_S = 0.5  # a signal that another thread takes, or just before the wait, does not end it
_SHORTEST_WAIT_S = 1e-3  # Python's SimpleQueue may wait for ever where a timeout is a few microseconds


class Service:
    """Runs a pipeline file, or what it becomes. Signals and parts put events; the main thread handles them.

    For a unit: `RestartPreventExitStatus=2 3`. With 2 (`ExitCode.CONFIG`) a file, option or address is wrong,
    with 3 (`ExitCode.MODEL`) a model in the store is: to start again does not help before somebody has mended
    it. All other codes, and the watchdog's end, are worth a new start. `Type=notify` with
    `NotifyAccess=main` and `ExecReload=kill -HUP $MAINPID`, or `Type=notify-reload` where systemd has it.
    """

    def __init__(
        self, file: PipelineFile, report_file: Path | None = None, notifier: Notifier | None = None
    ) -> None:
        self._report_file = report_file  # where the last counts go, as JSON
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._supervisor = Supervisor(notifier or Notifier(), partial(self._events.put, "tick"))
        self._line = self._make_line(file)
        self._reload: Reload | None = None  # that is under way
        self._is_reload_wanted = False  # after that
        self._stops_asked = 0
        self._stats_due_s = 0.0

    @property
    def is_device_lost(self) -> bool:
        """After `run`: the process has to end at once, as a driver may wait for ever."""
        return self._line.is_device_lost

    def run(self) -> ExitCode:
        """Start, serve until stopped or until every source has ended, stop. Raises EdgertError."""
        sys.setswitchinterval(SHORT_TURN_S)
        if self._line.file.options.serve is None:  # requests come in bodies whose memory is best kept
            return_large_blocks()
        self._check_report_file()
        with ExitStack() as undo:
            self._install_signals(undo)
            self._supervisor.start()
            undo.callback(self._supervisor.stop)
            if not self._start(self._line):
                return ExitCode.OK
            while (event := self._serve()) == "replace":
                if not self._replace():
                    return ExitCode.OK
            is_drained = self._finish()
        return self._exit_code(event, is_drained)

    def is_ready(self) -> bool:
        """Every model is loaded and nothing stops."""
        return self._line.is_ready()

    def report(self) -> dict[str, Any]:
        """Return all counts."""
        return self._line.report()

    # From the start of a line to its end.

    def _make_line(self, file: PipelineFile) -> Line:
        return Line(file, self._events.put, self._supervisor.changed)

    def _start(self, line: Line) -> bool:
        """Open a line and load its models; False if a stop was asked for before it was done."""
        started = time.monotonic()
        self._line = line
        self._supervisor.opening(line)
        with ExitStack() as undo:
            undo.callback(line.close)
            line.open()
            if not self._load_models(line):
                self._supervisor.stopping(line.close_s)
                return False
            line.begin()
            undo.pop_all()
        self._supervisor.opened()
        self._stats_due_s = time.monotonic() + line.file.options.service.stats_s
        log.info("ready after %.2f s", time.monotonic() - started)
        return True

    def _load_models(self, line: Line) -> bool:
        """Load on another thread, so that a stop is heard; an engine may take minutes."""
        failures: list[EdgertError] = []
        self._in_background(lambda: _kept(line.load_models, failures))
        later: list[Event] = []
        while (event := self._next_event(None)) != "done":
            if event == "stop":
                log.info("stopping before the models are loaded")
                return False
            later += [event] if event else []
        for failure in failures:
            raise failure
        for event in later:
            self._events.put(event)
        return True

    def _serve(self) -> Event:
        """Handle events until one of them ends the line; returns that: `replace` if another one follows."""
        while True:
            event = self._next_event(self._line.file.options.service.stats_s or None)
            if event == "reload":
                self._begin_reload()
            elif event == "done":
                if self._end_reload():
                    return "replace"
            elif event is None:
                self._line.announcements.stats()
            elif event != "ended" or self._line.assembly.have_all_ended():
                log.info("stopping: %s", _WHY[event])
                return event

    def _finish(self) -> bool:
        """Drain and close the last line; False if work was lost."""
        line = self._line
        self._supervisor.stopping(line.close_s)
        with ExitStack() as undo:
            undo.callback(line.close)
            is_drained = line.drain()
            report = line.assembly.report()
        # Only a closed sink has sent all that it ever will.
        self._write(msgspec.structs.replace(report, sinks=line.assembly.sink_report()))
        return is_drained and not line.has_lost_work

    def _exit_code(self, event: Event, is_drained: bool) -> ExitCode:
        if event in ("ended", "lost") and (failure := self._line.assembly.failure()) is not None:
            return exit_code_of(failure) if isinstance(failure, EdgertError) else ExitCode.BUG
        return ExitCode.OK if is_drained else ExitCode.WORK_LOST

    # Reload.

    def _begin_reload(self) -> None:
        if self._reload is not None:
            self._is_reload_wanted = True
            return
        self._supervisor.reloading()
        self._reload = Reload(self._line.file, self._line.device_name, self._line.changes)
        self._in_background(self._reload.run)

    def _end_reload(self) -> bool:
        """See what came of a reload; True if the line has to give way to another one."""
        reload = self._reload
        if reload is None:
            return False
        if self._is_reload_wanted:
            self._is_reload_wanted = False
            self._events.put("reload")
        if reload.successor is not None:
            return True
        self._reload = None
        self._line.file = reload.followed
        self._supervisor.reloaded(reload.problem)
        return False

    def _replace(self) -> bool:
        """End the line and start one for the new file, or else one for the old; False after a stop."""
        new = self._reload.successor if self._reload is not None else None
        self._reload = None
        assert new is not None  # noqa: S101 - our own invariant
        old, began = self._line.file, time.monotonic()
        self._end_line(new)
        _follow_logging(old, new)
        try:
            is_started = self._start(self._make_line(new))
        except EdgertError as error:
            problem = f"the new pipeline could not be started, so the old one is again: {error}"
            log.error("%s", problem)  # noqa: TRY400 - the operator's mistake has no traceback
            self._supervisor.note(problem)
            _follow_logging(new, old)
            is_started = self._start(self._make_line(old))
        if is_started:
            log.info("reloaded: no frame was taken for %.2f s", time.monotonic() - began)
        return is_started

    def _end_line(self, successor: PipelineFile) -> None:
        line = self._line
        self._supervisor.closing(line.close_s)
        line.give_way(successor)
        with ExitStack() as undo:
            undo.callback(line.close)
            line.drain()
        if line.is_device_lost:
            raise DeviceLostError("The device was lost while the pipeline was drained.")

    # The process around it.

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do slow work on a thread of its own; the event `done` follows."""

        def work_and_tell() -> None:
            work()
            self._events.put("done")

        threading.Thread(target=work_and_tell, name="load", daemon=True).start()

    def _next_event(self, stats_s: float | None) -> Event | None:
        """Return the next event, or None when statistics are due."""
        while True:
            self._supervisor.main_turned()
            try:
                event = self._events.get(timeout=self._patience_s(stats_s))
            except Empty:
                if stats_s and time.monotonic() >= self._stats_due_s:
                    self._stats_due_s = time.monotonic() + stats_s
                    return None
            else:
                if event != "tick":
                    return event

    def _patience_s(self, stats_s: float | None) -> float:
        due_s = self._stats_due_s - time.monotonic() if stats_s else _LONGEST_WAIT_S
        return min(max(_SHORTEST_WAIT_S, due_s), _LONGEST_WAIT_S)

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


def _follow_logging(old: PipelineFile, new: PipelineFile) -> None:
    before, now = old.options.service, new.options.service
    if (before.log, before.log_level) != (now.log, now.log_level):
        set_up_logging(now.log, now.log_level)


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
