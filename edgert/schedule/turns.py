"""How long a thread keeps the interpreter's lock while others wait for it."""

from __future__ import annotations

import sys
from types import TracebackType

# What Python calls the switch interval. At its default of 5 ms one busy thread starves the others.
SHORT_TURN_S = 50e-6
LONG_TURN_S = 500e-6
_HALF_MICROSECOND_S = 0.5e-6  # Python keeps whole microseconds, rounded down: 50 would come back as 49


class LongTurn:
    """Lets the thread that enters finish what it does before it has to give the lock away. One at a time.

    To submit eight batches takes longer than a short turn, and who is cut off waits for a turn of every busy
    thread: beside four of them eight lanes kept 0.6 of their pace, and keep 0.98 so (DECISIONS 24). Nobody
    waits longer than before for a thread that does not enter.
    """

    __slots__ = ("_usual_s",)

    def __enter__(self) -> None:
        self._usual_s = sys.getswitchinterval()
        if self._usual_s < LONG_TURN_S:
            sys.setswitchinterval(LONG_TURN_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        sys.setswitchinterval(self._usual_s + _HALF_MICROSECOND_S)
