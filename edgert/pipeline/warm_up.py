"""Runs a new lane before frames do, so that the first one meets no cold engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from edgert.errors import ModelError
from edgert.execute.engine import Fill, Lane

T = TypeVar("T")

WARM_UP_TIMEOUT_S = 120.0


def warm_up(lane: Lane, model: str, fill: Fill) -> None:
    """Run each buffer set once, so that memory which is too small shows now.

    Raises:
        ModelError: the engine gave no answer in time, or what the batch failed with.
    """
    warm: set[int] = set()
    while (buffers := _await(lane.acquire, model)).index not in warm:
        lane.submit(buffers, fill, None)
        [done] = _await(lane.poll, model)
        lane.release(buffers)
        if done.error:
            raise done.error
        warm.add(buffers.index)
    lane.release(buffers)


def _await(ask: Callable[[], T | None], model: str) -> T:
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise ModelError(f"Model {model}: the engine gave no answer in {WARM_UP_TIMEOUT_S} s.")
        time.sleep(0.001)
    return answer
