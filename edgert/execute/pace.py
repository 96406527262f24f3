"""When to ask a device whether a batch is done: to ask takes three microseconds of the interpreter's lock."""

from __future__ import annotations

EARLIEST_SPREADS = 3  # before the usual time, in mean deviations of it, it is first asked
LOOKS_PER_RUN = 64  # after that, in the usual time
FIRST_LOOK_SHARE = 8  # of the usual time, by how much less a batch is taken to need that was done at once
# A batch that takes so long never ends: a kernel hangs.
STUCK_NS, STUCK_RUNS = 30_000_000_000, 50


class Pace:
    """What batches of one lane take from submit to done, learnt as they come."""

    def __init__(self) -> None:
        self.usual_ns = 0
        self.spread_ns = 0  # how far batches are from that, on average

    def first_look_ns(self, started_ns: int) -> int:
        """Return when to ask first."""
        return started_ns + self.usual_ns - EARLIEST_SPREADS * self.spread_ns

    def next_look_ns(self, now_ns: int) -> int:
        """Return when to ask again."""
        return now_ns + self.usual_ns // LOOKS_PER_RUN

    def is_stuck(self, waited_ns: int) -> bool:
        """Say whether a batch has taken so long that it never ends."""
        return waited_ns > max(STUCK_NS, STUCK_RUNS * self.usual_ns)

    def learn(self, took_ns: int, *, is_exact: bool) -> None:
        """Follow what batches take, and how much that varies.

        A batch that was done when it was first asked for took less, nobody knows how much: the next is asked
        for earlier.
        """
        if not self.usual_ns:
            self.usual_ns, self.spread_ns = took_ns, took_ns // 2
            return
        if not is_exact:
            took_ns = min(took_ns, self.usual_ns - self.usual_ns // FIRST_LOOK_SHARE)
        apart_ns = took_ns - self.usual_ns
        self.usual_ns += apart_ns // 8
        self.spread_ns += (abs(apart_ns) - self.spread_ns) // 4
