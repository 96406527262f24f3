"""What a result is called on its way to the broker."""

from __future__ import annotations

import msgspec

from edgert.frames.result import Result


class Ticket(msgspec.Struct, eq=False):
    """A result on its way to the broker, with its place in the order of all. It outlives connections."""

    number: int
    result: Result
    is_counted: bool = False  # it was handed over before, on a connection that broke
    breaks: int = 0  # connections that ended with it first in flight

    @property
    def captured_mono_ns(self) -> int:
        """When its frame was captured."""
        return self.result.captured_mono_ns
