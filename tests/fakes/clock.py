"""Time that stands still until a test moves it."""

from __future__ import annotations

import threading

WAIT_S = 10.0  # real seconds before a test that waits for a thread gives up


class FakeClock:
    """Nanoseconds, called like `time.monotonic_ns`. Who sleeps on its `wakes` sleeps by its time."""

    def __init__(self, now_ns: int = 0) -> None:
        self.changed = threading.Condition()
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, by_ns: int) -> None:
        """Let time pass, and wake whoever is due."""
        with self.changed:
            self.now_ns += by_ns
            self.changed.notify_all()

    def wakes(self) -> FakeWakes:
        """Return a queue whose timeouts are this clock's."""
        return FakeWakes(self)


class FakeWakes:
    """A queue with one taker. `wait_until_asleep` returns once the taker has nothing left to do."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._changed = clock.changed
        self._items = []
        self._sleeps = False
        self.due_ns = None  # when the taker wants to be woken; None: only by `wake`

    def wake(self) -> None:
        """Wake the taker."""
        with self._changed:
            self._items.append(None)
            self._changed.notify_all()

    def wait(self, timeout=None) -> bool:
        """Wait for a wake until the clock has moved by `timeout` seconds; False if that comes first."""
        with self._changed:
            self.due_ns = None if timeout is None else self._clock.now_ns + round(timeout * 1e9)
            self._sleeps = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_over)
            self._sleeps = False
            is_woken = bool(self._items)
            self._items.clear()
            return is_woken

    def wait_until_asleep(self) -> None:
        """Wait until the taker sleeps with no item to take and no time that is up."""
        with self._changed:
            is_asleep = self._changed.wait_for(lambda: self._sleeps and not self._is_over(), WAIT_S)
        assert is_asleep, "The taker did not come back to sleep."

    def _is_over(self) -> bool:
        return bool(self._items) or (self.due_ns is not None and self._clock.now_ns >= self.due_ns)
