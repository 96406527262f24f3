"""Which parts of a running line make progress, which are rightly idle, and which hang.

Parts count what they do anyway: turns of a thread, batches of a lane. Whoever looks now and then and finds
the same number while there is work has found a part that hangs. That costs a frame nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S
from edgert.publish.sink import Sink, Tap

if TYPE_CHECKING:
    from edgert.pipeline.loaded_model import LoadedModel
    from edgert.pipeline.pipeline import Pipeline
    from edgert.pipeline.running_source import RunningSource

USUAL_BATCHES = 50  # a batch that takes so many times the usual time hangs, but not before `hang_s`


class Pulse(msgspec.Struct, frozen=True):
    """How far one part has come."""

    part: str
    turns: int  # another number after each thing that it did
    is_idle: bool  # nothing has to be done just now
    limit_s: float  # how long one thing may take


class Hang(msgspec.Struct, frozen=True):
    """A part that has work and makes no progress."""

    part: str
    lasted_s: float


class Progress:
    """Compares each look with the one before. One thread."""

    def __init__(self, longest_step_s: float) -> None:
        """A look that comes later than `longest_step_s` after the last one counts as if it did not.

        Then this process did not run, e.g. as it was stopped: nothing could make progress.
        """
        self._longest_step_s = longest_step_s
        self._looked_ns: int | None = None
        self._seen: dict[str, tuple[int, float]] = {}  # turns, and for how long they are the same

    def look(self, pulses: Iterable[Pulse], now_ns: int) -> list[Hang]:
        """Return what hangs now. Parts that are no longer there are forgotten."""
        looked_ns = now_ns if self._looked_ns is None else self._looked_ns
        step_s = min((now_ns - looked_ns) / 1e9, self._longest_step_s)
        self._looked_ns = now_ns
        seen: dict[str, tuple[int, float]] = {}
        hangs = []
        for pulse in pulses:
            lasted_s = self._lasted_s(pulse, step_s)
            seen[pulse.part] = pulse.turns, lasted_s
            if lasted_s > pulse.limit_s:
                hangs.append(Hang(pulse.part, lasted_s))
        self._seen = seen
        return hangs

    def _lasted_s(self, pulse: Pulse, step_s: float) -> float:
        turns, lasted_s = self._seen.get(pulse.part, (None, 0.0))
        return 0.0 if pulse.is_idle or pulse.turns != turns else lasted_s + step_s


def pulses_of(
    pipeline: Pipeline,
    sources: Mapping[str, RunningSource],
    sinks: Iterable[Sink | Tap],
    hang_s: float,
) -> Iterator[Pulse]:
    """Yield the pulse of every part, and wake the scheduler: its next turn shows that it lives."""
    yield Pulse("the scheduler", pipeline.scheduler.turns, is_idle=False, limit_s=hang_s)
    pipeline.scheduler.wake()
    yield Pulse("decoding", pipeline.turns, is_idle=pipeline.turns % 2 == 0, limit_s=hang_s)
    for model in pipeline.models.loaded():
        yield from model_pulses(model, hang_s)
    for name, source in sources.items():
        yield source.pulse(name, hang_s)
    for sink in sinks:
        for pulse in sink.pulses():
            yield Pulse(pulse.part, pulse.turns, pulse.is_idle, hang_s)


def model_pulses(model: LoadedModel, hang_s: float) -> Iterator[Pulse]:
    """Yield the pulse of each lane, and of the frames that wait for one.

    A lane's limit is that of `execute.pace`: 50 times what batches take, if that is more than `hang_s`; the
    first one may take as long as when it was warmed.
    """
    usual_s = model.usual_batch_ns / 1e9
    limit_s = max(hang_s, usual_s * USUAL_BATCHES if usual_s else WARM_UP_TIMEOUT_S)
    title = f"model {model.name} version {model.version}"
    for number, flights in enumerate(model.flights(), 1):
        part = f"lane {number} of {title}"
        yield Pulse(part, flights.ended, is_idle=flights.begun == flights.ended, limit_s=limit_s)
    delay_s = model.policy.delay_ns / 1e9
    is_empty = not model.batcher.waiting
    yield Pulse(f"the queue of {title}", model.submitted, is_idle=is_empty, limit_s=limit_s + delay_s)
