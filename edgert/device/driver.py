"""What edgert asks of a device. `host` is the first driver; others pass the same contract tests."""

from __future__ import annotations

from typing import Protocol

from edgert.device.memory import Buffer


class Driver(Protocol):
    """One device. All methods may be called from any thread."""

    name: str

    def open(self) -> None:
        """Take the device. Raises DeviceError."""

    def close(self) -> None:
        """Give the device back. Every buffer must have been freed before."""

    def allocate(self, size_bytes: int) -> Buffer:
        """Return a buffer that the host can write and a lane can read. The caller frees it.

        Raises:
            OutOfDeviceMemoryError: neither device nor budget has `size_bytes` left.
        """

    def attributes(self) -> dict[str, str | int]:
        """Return facts about the device that decide placement, for people and for `doctor`."""
