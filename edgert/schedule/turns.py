"""How long a thread keeps the interpreter's lock while others wait for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

# What Python calls the switch interval. At its default of 5 ms one busy thread starves the others.
SHORT_TURN_S = 50e-6
LONG_TURN_S = 2e-3
_HALF_MICROSECOND_S = 0.5e-6  # Python keeps whole microseconds, rounded down: 50 would come back as 49


class LongTurns:
    """Lets one thread of the process finish what it does before it has to give the lock away.

    To submit to eight lanes takes longer than a short turn, and who is cut off waits for a turn of every busy
    thread: beside four of them the lanes kept 0.6 of their pace, and keep all of it so (DECISIONS 24). The
    block ends them. The interpreter has one length of turns: of several such threads, one for each GPU, the
    newest to sleep or wake decides it.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _usual_s: ClassVar[list[float]] = []  # before the first of the blocks that are open, once for each

    def __enter__(self) -> LongTurns:
        with self._lock:  # another block may have made the turns long already
            usual_s = self._usual_s[0] if self._usual_s else sys.getswitchinterval() + _HALF_MICROSECOND_S
            self._usual_s.append(usual_s)
        self._end = partial(sys.setswitchinterval, usual_s)
        self._begin = partial(sys.setswitchinterval, max(usual_s, LONG_TURN_S))
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._lock:
            self._usual_s.pop()
        self._end()

    def sleep(self, wait: Callable[[], Any]) -> None:
        """Call what gives the lock away, with short turns for all meanwhile, and begin a long one.

        Both calls are made from C: were there bytecode in between, other threads would often have begun to
        wait for a short turn only.
        """
        self._end()
        _, _ = map(partial.__call__, (partial(wait), self._begin))
