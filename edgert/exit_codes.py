"""How the process ends; systemd and scripts decide by it."""

from __future__ import annotations

from enum import IntEnum

from edgert.errors import BusyError, ConfigError, DeviceError, EdgertError, ModelError, SinkError, SourceError


class ExitCode(IntEnum):
    """Exit codes of `edgert`."""

    OK = 0  # stopped as asked, or all sources ended; every admitted frame was answered
    BUG = 1  # an error that edgert did not foresee; the log has the traceback
    OVER_LIMIT = 1  # `edgert calibrate`: INT8 is worse than the recipe allows; nothing was activated
    CONFIG = 2  # a file, option or address is wrong; starting again will not help
    MODEL = 3  # a model cannot be loaded as it is in the store
    DEVICE = 4  # the device failed or has no memory left
    OUTSIDE = 5  # a source or receiver outside edgert failed, or another process has the files just now
    WORK_LOST = 6  # a stop was forced, or work was still in flight when its time was up


_CODES: tuple[tuple[type[EdgertError], ExitCode], ...] = (
    (ConfigError, ExitCode.CONFIG),
    (ModelError, ExitCode.MODEL),
    (DeviceError, ExitCode.DEVICE),
    (SourceError, ExitCode.OUTSIDE),
    (SinkError, ExitCode.OUTSIDE),
    (BusyError, ExitCode.WORK_LOST),  # a thread or slot that did not come back when everything stopped
)


def exit_code_of(error: EdgertError) -> ExitCode:
    """Return the code for an error that ends the process."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.BUG)
