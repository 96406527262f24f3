"""`edgert run`: a pipeline file as a service, from its first line in the log to its exit code."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from edgert.errors import EdgertError
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.logs import set_up_logging
from edgert.pipeline.file import PipelineFile
from edgert.service.notify import Notifier, failure_fields, this_process
from edgert.service.service import Service

log = logging.getLogger("edgert.cli")  # what a log calls the part that says why the process ends


def run_service(path: Path, overrides: Sequence[str], report_file: Path | None) -> int:
    """Run until it is stopped or its sources have ended; returns the exit code.

    May end the process instead. Raises ConfigError for a file that cannot be read: there is no log yet.
    """
    notifier = this_process()
    try:
        try:
            file = PipelineFile.load(path, overrides)
        except EdgertError as error:
            notifier.send(failure_fields(error, exit_code_of(error)))
            raise
        set_up_logging(file.options.service.log, file.options.service.log_level)
        if notifier.is_on:
            faulthandler.enable()  # systemd ends what hangs with SIGABRT; this says where it hung
        return _run(file, report_file, notifier)
    finally:
        notifier.close()


def _run(file: PipelineFile, report_file: Path | None, notifier: Notifier) -> int:
    """From here on the log is where everything is said, in the form that was asked for."""
    is_device_lost = False
    try:
        file.check()
        for warning in file.warnings():
            log.warning("%s", warning)
        service = Service(file, report_file, notifier)
        try:
            code = service.run()
        finally:
            is_device_lost = service.is_device_lost
    except EdgertError as error:
        log.critical("%s", error)
        code = exit_code_of(error)
        notifier.send(failure_fields(error, code))
    except Exception:  # the process's last line: the log must have the traceback in its own form
        log.critical("edgert did not foresee this", exc_info=True)
        code = ExitCode.BUG
        notifier.send(failure_fields(None, code))
    if is_device_lost or any(thread.daemon for thread in threading.enumerate()):
        # A lost device may keep a driver waiting for ever, and a thread that was left behind may be inside a
        # library, where the end of the interpreter would abort it.
        logging.shutdown()
        os._exit(code)
    return code
