"""How long a thread keeps the interpreter's lock while others wait for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

# What Python calls the switch interval. At its default of 5 ms one busy thread starves the others.
SHORT_TURN_S = 50e-6
LONG_TURN_S = 2e-3
_HALF_MICROSECOND_S = 0.5e-6  # Python keeps whole microseconds, rounded down: 50 would come back as 49


class LongTurns:
    """Lets one thread of the process finish what it does before it has to give the lock away.

    To submit to eight lanes takes longer than a short turn, and who is cut off waits for a turn of every busy
    thread: beside four of them the lanes kept 0.6 of their pace, and keep all of it so (DECISIONS 24). The
    block ends them.
    """

    def __init__(self) -> None:
        usual_s = sys.getswitchinterval() + _HALF_MICROSECOND_S
        self._end = partial(sys.setswitchinterval, usual_s)
        self._begin = partial(sys.setswitchinterval, max(usual_s, LONG_TURN_S))

    def __enter__(self) -> LongTurns:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    def sleep(self, wait: Callable[[], Any]) -> None:
        """Call what gives the lock away, with short turns for all meanwhile, and begin a long one.

        Both calls are made from C: were there bytecode in between, other threads would often have begun to
        wait for a short turn only.
        """
        self._end()
        _, _ = map(partial.__call__, (partial(wait), self._begin))
