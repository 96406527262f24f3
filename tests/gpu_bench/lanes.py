"""`Lane.submit` to done, against loops of captured graphs and of plain calls."""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from edgert.decode.ssd import SsdDecoder, SsdOptions
from edgert.device.opened import open_device
from edgert.execute.engine import LaneOptions
from edgert.execute.options import EngineOptions
from edgert.execute.tensorrt_engine import load_tensorrt_engine
from edgert.frames.placement import Placement
from edgert.frames.result import Result
from edgert.frames.slots import SlotRing
from edgert.publish.payload import ResultEncoder
from edgert.schedule.timer import wake_exactly
from edgert.schedule.turns import SHORT_TURN_S, LongTurns
from edgert.schedule.wakes import Wakes
from tests.bench.figures import Row
from tests.gpu.plans import build_plan
from tests.gpu.resnet import write_resnet50
from tests.gpu_bench.bare import BareLoop

LANES = 8
ITEM = (3, 224, 224)
ITEM_BYTES = 2 * 3 * 224 * 224
REPEATS = 5
WARM_RESULTS = 50  # of each busy thread, before it is one


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield the rows of lanes."""
    plan = resnet_plan(folder, 1)
    runs = 2_000 if quick else 8_000
    device = open_device("cuda")
    previous = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN_S)  # as the service does
    wake_exactly()  # as the scheduler's thread does
    gc.collect()
    gc.freeze()  # as the service does once models are loaded
    try:
        with device.driver.current():
            bare = BareLoop(plan, LANES)
            bare.capture()
            with opened_lanes(device, plan, LANES) as rig:
                rig.run(200)
                yield from _throughput(bare, rig, runs)
                yield _beside_others(bare, rig, runs)
            with opened_lanes(device, plan, 1) as rig:
                rig.run(200)
                yield from _one_at_a_time(bare, rig, runs // 5)
    finally:
        sys.setswitchinterval(previous)
        gc.unfreeze()
    del bare
    device.close()


def _throughput(bare: BareLoop, rig: LaneRig, runs: int) -> Iterator[Row]:
    against_graphs, against_plain, rates = [], [], []
    for _ in range(REPEATS):
        graphs, (ours, _), plain = bare.graphs(runs), rig.run(runs), bare.plain(runs // 2)
        against_graphs.append(ours / graphs)
        against_plain.append(ours / plain)
        rates.append((graphs, ours, plain))
    graphs, ours, plain = (statistics.median(column) for column in zip(*rates, strict=True))
    text = f"{ours:.0f} against {graphs:.0f} images/s"
    yield _ratio("8 lanes, batch 1, against 8 captured graphs", against_graphs, 0.97, text)
    text = f"{ours:.0f} against {plain:.0f} images/s"
    yield _ratio("8 lanes, batch 1, against the plain loop with 8 contexts", against_plain, 3.2, text)


def _beside_others(bare: BareLoop, rig: LaneRig, runs: int) -> Row:
    ratios, tails = [], []
    decoded = 0
    for _ in range(REPEATS):
        _, quiet = rig.run(runs)
        graphs = bare.graphs(runs)
        with busy_threads(4) as count:
            ours, latencies = rig.run(runs)
            decoded += count()
        ratios.append(ours / graphs)
        tails.append(percentile(latencies, 99) / percentile(quiet, 99))
    tail = statistics.median(tails)
    ratio = statistics.median(ratios)
    value = f"{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}); p99 {tail:.2f} times the quiet one"
    data = {"ratios": ratios, "p99_ratios": tails, "results_decoded_beside": decoded}
    is_met = ratio >= 0.93 and tail <= 1.5
    return Row("the same beside 4 threads that decode and encode", value, ">= 0.93, p99 <= 1.5", is_met, data)


def _one_at_a_time(bare: BareLoop, rig: LaneRig, runs: int) -> Iterator[Row]:
    halves, tails, times = [], [], []
    for _ in range(REPEATS):
        theirs, ours = bare.one_at_a_time(runs), rig.one_at_a_time(runs)
        halves.append(percentile(ours, 50) / percentile(theirs, 50))
        tails.append(percentile(ours, 99) / percentile(theirs, 99))
        times.append([percentile(side, q) for q in (50, 99) for side in (ours, theirs)])
    p50, bare_p50, p99, bare_p99 = (statistics.median(column) for column in zip(*times, strict=True))
    for name, ratios, limit, ours, theirs in (
        ("p50", halves, 1.05, p50, bare_p50),
        ("p99", tails, 1.08, p99, bare_p99),
    ):
        ratio = statistics.median(ratios)
        value = f"{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}); {ours:.3f} against {theirs:.3f} ms"
        yield Row(
            f"one at a time, {name} against graph launch and wait",
            value,
            f"<= {limit}",
            ratio <= limit,
            {"ratios": ratios},
        )


def _ratio(figure: str, ratios: list[float], least: float, text: str) -> Row:
    ratio = statistics.median(ratios)
    value = f"{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}); {text}"
    return Row(figure, value, f">= {least}", ratio >= least, {"ratios": ratios})


class LaneRig:
    """Lanes driven as the scheduler drives them, with inputs in slots."""

    def __init__(self, lanes, ring: SlotRing) -> None:
        self._lanes = lanes
        self._ring = ring

    def run(self, count: int) -> tuple[float, list[float]]:
        """Run `count` batches of 1 as fast as lanes take them; return images/s and milliseconds of each."""
        took, wakes = [], Wakes()
        submitted = 0
        started = time.perf_counter()
        with LongTurns() as turns:
            while len(took) < count:
                now_ns = time.monotonic_ns()
                for lane in self._lanes:
                    submitted += self._look(lane, now_ns, count - submitted, took)
                looks = [look for lane in self._lanes if (look := lane.look_ns(now_ns)) is not None]
                wait_ns = min(looks, default=0) - time.monotonic_ns()
                if wait_ns > 0:
                    turns.sleep(partial(wakes.wait, wait_ns / 1e9))
        return count / (time.perf_counter() - started), took

    def _look(self, lane, now_ns: int, most: int, took: list[float]) -> int:
        """Collect from the lane if it may be done, and feed it; return how many batches were submitted."""
        if (look_ns := lane.look_ns(now_ns)) is not None and look_ns <= now_ns:
            took.extend(self._finished(lane, done) for done in lane.poll())
        submitted = 0
        while submitted < most and (buffers := lane.acquire()):
            self._submit(lane, buffers, self._ring)
            submitted += 1
        return submitted

    def one_at_a_time(self, count: int) -> list[float]:
        """Submit one batch and poll until it is done, again and again; return each one's milliseconds."""
        [lane], took = self._lanes, []
        for _ in range(count):
            started = time.perf_counter_ns()
            self._submit(lane, lane.acquire(), self._ring)
            while not (done := lane.poll()):
                pass
            took.append((time.perf_counter_ns() - started) / 1e6)
            self._finished(lane, done[0])
        return took

    @staticmethod
    def _submit(lane, buffers, ring):
        slot = ring.acquire_write()
        slot.commit(1)

        def fill(own):
            tensor = own.inputs({"images": (1, *ITEM)})["images"]
            own.stream.copy(tensor.address, slot.buffer.address, ITEM_BYTES)

        lane.submit(buffers, fill, None, slot.release)

    @staticmethod
    def _finished(lane, done):
        if done.error:
            raise done.error
        lane.release(done.buffers)
        return (done.finished_mono_ns - done.started_mono_ns) / 1e6


@contextmanager
def opened_lanes(device, plan: Path, count: int) -> Iterator[LaneRig]:
    """Open an engine, lanes and a ring of slots that hold random pictures."""
    with ExitStack() as undo:
        engine = load_tensorrt_engine(plan, "tensorrt_rtx", EngineOptions(), device, "model resnet50")
        undo.callback(engine.close)
        lanes = []
        for _ in range(count):
            lanes.append(engine.open_lane(1, lambda: None, LaneOptions()))
            undo.callback(lanes[-1].close)
        ring = SlotRing(4 * count, ITEM_BYTES, device.slots_of("bench"))
        undo.callback(ring.close)
        fill_slots(ring, 4 * count)
        yield LaneRig(lanes, ring)


def fill_slots(ring: SlotRing, count: int) -> None:
    """Write random FP16 numbers into every slot."""
    random = np.random.default_rng(0)
    slots = [ring.acquire_write() for _ in range(count)]
    for slot in slots:
        slot.fit((ITEM_BYTES,))[:] = random.standard_normal(ITEM_BYTES // 2).astype(np.float16).view(np.uint8)
    for slot in slots:
        slot.abandon()


@contextmanager
def busy_threads(count: int) -> Iterator:
    """Threads that decode an SSD's outputs and encode the results; yields a function that counts them."""
    stop, counts = threading.Event(), [0] * count
    threads = [threading.Thread(target=_decode, args=(stop, counts, index)) for index in range(count)]
    for thread in threads:
        thread.start()
    try:
        while min(counts) < WARM_RESULTS:
            time.sleep(0.01)
        before = sum(counts)
        yield lambda: sum(counts) - before
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _decode(stop: threading.Event, counts: list[int], index: int) -> None:
    random = np.random.default_rng(index)
    scores = (random.random((1917, 90)) ** 12).astype(np.float32)
    boxes = np.sort(random.random((1917, 2, 2)), axis=1).reshape(1917, 4).astype(np.float32)
    shapes = {"boxes": boxes.shape, "scores": scores.shape}
    decoder = SsdDecoder(SsdOptions(score_min=0.999), (), shapes)
    encoder = ResultEncoder("bench", "boot")
    placement = Placement.stretch(1920, 1080, 300, 300)
    while not stop.is_set():
        output = decoder.decode({"boxes": boxes, "scores": scores}, placement)
        now = time.time_ns()
        encoder.encode(Result("s", 0, "m", 1, now, time.monotonic_ns(), 1920, 1080, output))
        counts[index] += 1


def resnet_plan(folder: Path, batch: int) -> Path:
    """Return ResNet-50 FP16 for exactly `batch` pictures, built once in `folder`."""
    plan = folder / f"resnet50-{batch}" / "1" / "model.plan"
    if not plan.exists():
        plan.parent.mkdir(parents=True)
        build_plan(write_resnet50(plan.with_suffix(".onnx"), batch=batch), plan)
    return plan


def percentile(values: list[float], q: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q / 100 * len(ordered)))]
