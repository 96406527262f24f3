"""The one line that `systemctl status` shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from edgert.pipeline.overview import Overview
from edgert.pipeline.progress import Hang

LEAST_S = 0.9  # results of a shorter time make no rate


class Rate:
    """How many results a second there were of late."""

    def __init__(self) -> None:
        self._counted = 0
        self._counted_ns: int | None = None
        self._per_s = 0.0

    def of(self, count: int, now_ns: int) -> float:
        """Return the rate since the last time, for a count that grows; one that shrank begins anew."""
        if self._counted_ns is None or count < self._counted:
            self._counted, self._counted_ns, self._per_s = count, now_ns, 0.0
        passed_s = (now_ns - self._counted_ns) / 1e9
        if passed_s >= LEAST_S:
            self._per_s = (count - self._counted) / passed_s
            self._counted, self._counted_ns = count, now_ns
        return self._per_s


def describe(overview: Overview, per_s: float) -> str:
    """Return e.g. `1 of 2 sources online (yard offline), 1 of 1 models ready, 24.8 results/s, 0 dropped`."""
    away = [f"{name} {state}" for name, state in overview.sources.items() if state != "online"]
    unready = [f"{name} {state.lower()}" for name, state in overview.models.items() if state != "READY"]
    said = [
        _share("sources online", len(overview.sources), away),
        _share("models ready", len(overview.models), unready),
        f"{per_s:.1f} results/s",
        f"{overview.dropped} frames dropped",
    ]
    if overview.lost:
        said.append(f"{overview.lost} results lost")
    return ", ".join(said)


def describe_hangs(hangs: Sequence[Hang], utc_s: Callable[[], float] = time.time) -> str:
    """Return what hangs, for how long, and since when by the local clock."""
    return ", ".join(
        f"{hang.part} hangs for {hang.lasted_s:.0f} s, since {_clock(utc_s() - hang.lasted_s)}"
        for hang in hangs
    )


def _share(what: str, total: int, missing: Sequence[str]) -> str:
    named = f" ({', '.join(missing)})" if missing else ""
    return f"{total - len(missing)} of {total} {what}{named}"


def _clock(utc_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(utc_s))
