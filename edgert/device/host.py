"""The CPU as a device: page-aligned memory of the process, no copies to make."""

from __future__ import annotations

import mmap
import os
import platform

import numpy as np

from edgert.device.memory import Budget, Buffer
from edgert.errors import OutOfDeviceMemoryError


class HostDriver:
    """A Driver whose lanes run on the CPU."""

    name = "host"

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()

    def open(self) -> None:
        """Do nothing: the CPU is always there."""

    def close(self) -> None:
        """Do nothing: buffers free themselves."""

    def allocate(self, size_bytes: int) -> Buffer:
        """Return page-aligned anonymous memory; pages that are never written cost nothing."""
        self.budget.take(size_bytes)
        try:
            pages = mmap.mmap(-1, max(size_bytes, 1))
        except (OSError, OverflowError) as error:
            self.budget.give_back(size_bytes)
            raise OutOfDeviceMemoryError(f"The machine has no {size_bytes} bytes of memory left.") from error
        return Buffer(np.frombuffer(pages, np.uint8)[:size_bytes], self.budget.give_back)

    def attributes(self) -> dict[str, str | int]:
        """Return the machine's name and its usable cores."""
        return {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
