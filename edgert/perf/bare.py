"""The plain loop that edgert is held against: the runtime called in a loop, and nothing else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from typing import Protocol

import msgspec

from edgert.device.opened import OpenDevice
from edgert.errors import ConfigError
from edgert.execute.engine import EngineInfo
from edgert.perf.fills import Batch
from edgert.perf.measure import Spread, spread_of
from edgert.perf.options import Window
from edgert.perf.target import Target

Span = tuple[int, int]  # when a batch began and when it was seen to be done
IsStopping = Callable[[], bool]


class BareFigures(msgspec.Struct, frozen=True):
    """What the plain loop reached. `width`: threads on the host, execution contexts on a device."""

    kind: str
    width: int
    requests: int
    throughput_per_s: float
    items_per_s: float
    took: Spread  # of a batch, from its beginning to when the loop saw its end


class Slot(Protocol):
    """One execution context with buffers of its own."""

    def enqueue(self) -> None:
        """Enqueue the copies of the inputs, the engine, and the copies of the outputs."""

    def wait(self) -> None:
        """Return when they are done."""


class BareLoop(msgspec.Struct, frozen=True):
    """What the plain loop runs, on as many threads or contexts as there are lanes."""

    target: Target
    info: EngineInfo
    device: OpenDevice
    batches: Sequence[Batch]
    lanes: int
    threads: int  # of the CPU, for each thread of the loop


def demand_bare(target: Target) -> None:
    """Raise ConfigError if there is no plain loop to compare with."""
    if target.runtime == "noop":
        raise ConfigError("--bare: the runtime noop computes nothing, so there is no plain loop")


def run_bare(loop: BareLoop, batch: int, window: Window, is_stopping: IsStopping) -> BareFigures | None:
    """Run the plain loop; None if it was interrupted before anything was measured.

    Raises:
        EdgertError: the engine cannot be loaded a second time, or does not run.
    """
    if loop.target.device == "host":
        spans = _onnx_spans(loop, window, is_stopping)
        return _figures("onnxruntime in a loop", loop.lanes, batch, spans)
    from edgert.perf.bare_cuda import open_slots

    with open_slots(loop.target, loop.info, loop.device, loop.batches, loop.lanes) as slots:
        spans = rotate(slots, window, is_stopping)
    return _figures("execute_async_v3 in a loop", loop.lanes, batch, spans)


def rotate(
    slots: Sequence[Slot],
    window: Window,
    is_stopping: IsStopping,
    clock: Callable[[], int] = time.monotonic_ns,
) -> list[Span]:
    """Enqueue on one slot after the other, each as soon as its last batch is done; one thread."""
    counted_ns = clock() + window.warm_up_ns
    over_ns = counted_ns + window.duration_ns
    flying: deque[tuple[Slot, int]] = deque()
    spans: list[Span] = []

    def land() -> None:
        oldest, begun_ns = flying.popleft()
        oldest.wait()
        if begun_ns >= counted_ns:
            spans.append((begun_ns, clock()))

    for slot in cycle(slots):
        if len(flying) == len(slots):
            land()
        if is_stopping() or (clock() >= over_ns and len(spans) >= window.iterations):
            break
        flying.append((slot, clock()))
        slot.enqueue()
    while flying:
        land()
    return spans


def _onnx_spans(loop: BareLoop, window: Window, is_stopping: IsStopping) -> list[Span]:
    """Run one session from several threads at once, as its own users do."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = loop.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(loop.target.file), options, providers=["CPUExecutionProvider"])
    run = partial(session.run, None)
    with ThreadPoolExecutor(loop.lanes, "bare") as pool:
        threads = [
            pool.submit(rotate, [_OnnxSlot(run, loop.batches)], window, is_stopping)
            for _ in range(loop.lanes)
        ]
        return [span for thread in threads for span in thread.result()]


class _OnnxSlot:
    """Runs at once: there is nothing to wait for."""

    def __init__(self, run: Callable[[Batch], object], batches: Sequence[Batch]) -> None:
        self._run = run
        self._feeds = cycle([dict(batch) for batch in batches])

    def enqueue(self) -> None:
        self._run(next(self._feeds))

    def wait(self) -> None:
        pass


def _figures(kind: str, width: int, batch: int, spans: Sequence[Span]) -> BareFigures | None:
    if not spans:
        return None
    wall_s = (max(end for _, end in spans) - min(begun for begun, _ in spans)) / 1e9
    throughput = len(spans) / wall_s if wall_s else 0.0
    return BareFigures(
        kind,
        width,
        len(spans),
        round(throughput, 3),
        round(throughput * batch, 3),
        spread_of((end - begun) / 1e6 for begun, end in spans),
    )
