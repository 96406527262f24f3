"""A device that is lost is told once, and ends the process with its own code."""

from __future__ import annotations

import numpy as np

from edgert.errors import DeviceLostError
from edgert.execute.engine import Completed
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.pipeline.fill import Batch
from edgert.pipeline.pipeline import Pipeline


class Model:
    name = "m"

    def decode(self, completed, batch):
        return []

    def finish(self):
        pass


class Lane:
    def release(self, buffers):
        pass


def test_lost_device_is_told_once_and_has_the_devices_exit_code():
    pipeline, told = Pipeline({}, []), []
    pipeline.on_lost = told.append
    lost = DeviceLostError("gone")
    for _ in range(2):
        batch = Batch([], [], [])
        pipeline._finish(Model(), Lane(), Completed(np.empty(0), batch, lost, 0, 0, 0))
    assert told == [lost]
    assert pipeline.failure is lost
    assert exit_code_of(lost) is ExitCode.DEVICE
