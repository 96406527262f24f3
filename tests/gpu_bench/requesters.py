"""64 requesters in a closed loop, through batcher and scheduler, against a plain loop at batch 32."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edgert.device.opened import open_device
from edgert.execute.options import EngineOptions
from edgert.execute.tensorrt_engine import load_tensorrt_engine
from edgert.frames.frame import Frame
from edgert.frames.slots import SlotRing
from edgert.pipeline.loaded_model import LoadedModel
from edgert.schedule.batcher import Batcher, BatchPolicy
from edgert.schedule.route import Route
from edgert.schedule.scheduler import Scheduler
from edgert.schedule.turns import SHORT_TURN_S
from tests.bench.figures import Row
from tests.gpu.plans import batches, build_plan
from tests.gpu.resnet import write_resnet50
from tests.gpu_bench.bare import BareLoop
from tests.gpu_bench.lanes import ITEM, ITEM_BYTES, fill_slots, percentile, resnet_plan

REQUESTERS = 64
BATCH = 32
LANES = 2
REPEATS = 3
WAIT_S = 120.0


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield the row of requesters, for an engine of variable batch and for one of exactly 32."""
    count = 20_000 if quick else 60_000
    dynamic = folder / "resnet50-dynamic" / "1" / "model.plan"
    dynamic.parent.mkdir(parents=True, exist_ok=True)
    model = write_resnet50(dynamic.with_suffix(".onnx"))
    build_plan(model, dynamic, batches("images", ITEM, BATCH))
    device = open_device("cuda")
    previous = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN_S)
    try:
        with device.driver.current():
            bare = BareLoop(resnet_plan(folder, BATCH), LANES)
            for name, plan in (("batches up to 32", dynamic), ("batches of 32", resnet_plan(folder, BATCH))):
                yield _compared(name, bare, device, plan, count)
    finally:
        sys.setswitchinterval(previous)
    del bare
    device.close()


def _compared(name: str, bare: BareLoop, device, plan: Path, count: int) -> Row:
    ratios, rates, tails, sizes = [], [], [], []
    for _ in range(REPEATS):
        theirs = bare.plain(count // BATCH) * BATCH
        crowd = Crowd(device, plan)
        ours, latencies = crowd.run(count)
        sizes.append(crowd.mean_batch())
        crowd.close()
        ratios.append(ours / theirs)
        rates.append((ours, theirs))
        tails.append((percentile(latencies, 50), percentile(latencies, 99)))
    ratio = statistics.median(ratios)
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    p50, p99 = (statistics.median(column) for column in zip(*tails, strict=True))
    value = (
        f"{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}); {ours:.0f} against {theirs:.0f} images/s; "
        f"p50 {p50:.2f}, p99 {p99:.2f} ms; {statistics.median(sizes):.1f} a batch"
    )
    figure = f"{REQUESTERS} requesters through the scheduler, {name}, against batch 32 on 2 contexts"
    return Row(figure, value, ">= 0.5 (goal 0.8)", ratio >= 0.5, {"ratios": ratios, "rates": rates})


class TensorsInSlots:
    """A filler of pictures that stand in their slots as tensors already."""

    def shape_for(self, pixel_format, height, width):
        return ITEM

    def fill(self, batch, buffers):
        tensor = buffers.inputs({"images": (len(batch.frames), *ITEM)})["images"]
        address, copy = tensor.address, buffers.stream.copy
        for frame in batch.frames:
            frame.slot.begin_read()
            copy(address, frame.slot.buffer.address, ITEM_BYTES)
            address += ITEM_BYTES

    def fill_zeros(self, buffers, count):
        tensor = buffers.inputs({"images": (count, *ITEM)})["images"]
        buffers.stream.zero(tensor.address, count * ITEM_BYTES)


class FixedBatch(TensorsInSlots):
    """The same for an engine that takes 32 and nothing else."""

    def fill(self, batch, buffers):
        tensor = buffers.inputs({"images": (BATCH, *ITEM)})["images"]
        address = tensor.address
        for frame in batch.frames:
            frame.slot.begin_read()
            buffers.stream.copy(address, frame.slot.buffer.address, ITEM_BYTES)
            address += ITEM_BYTES

    def fill_zeros(self, buffers, count):
        super().fill_zeros(buffers, BATCH)


class Crowd:
    """Requesters without threads: whoever is answered asks again, on the scheduler's thread."""

    def __init__(self, device, plan: Path) -> None:
        engine = load_tensorrt_engine(plan, "tensorrt_rtx", EngineOptions(), device, "model resnet50")
        policy = BatchPolicy(BATCH, (), 2_000_000)
        filler = TensorsInSlots if engine.info.batches else FixedBatch
        self._model = LoadedModel("resnet50", 1, engine, None, filler, policy, {})
        self._model.open_lanes(LANES)
        self._model.batcher = Batcher(policy, lambda *_: None, self._model.batch_key)
        self._scheduler = Scheduler(current=device.driver.current)
        self._model.on_done = self._scheduler.wake
        self._model.on_completed = self._answered
        self._ring = SlotRing(2 * REQUESTERS, ITEM_BYTES, device.slots_of("bench"))
        fill_slots(self._ring, 2 * REQUESTERS)
        self._route = Route("requests", "resnet50")
        self._left = self._open = 0
        self._latencies: list[float] = []
        self._done = threading.Event()
        self._failure = None
        self._scheduler.start()
        self._scheduler.add(self._model)

    def run(self, count: int) -> tuple[float, list[float]]:
        """Answer `count` requests; return images/s and the milliseconds of each."""
        started = time.perf_counter()
        self._left, self._open = count - REQUESTERS, REQUESTERS
        for _ in range(REQUESTERS):
            self._ask()
        self._scheduler.wake()
        assert self._done.wait(WAIT_S), "The requests were not answered in time."
        if self._failure:
            raise self._failure
        return count / (time.perf_counter() - started), self._latencies

    def mean_batch(self) -> float:
        """Return how many frames a batch had."""
        statistics = self._model.statistics()
        return statistics.frames / statistics.batches

    def close(self) -> None:
        self._scheduler.remove(self._model)
        self._scheduler.stop()
        self._model.close()
        self._ring.close()

    def _ask(self) -> None:
        slot = self._ring.acquire_write()
        slot.commit(1)
        now = time.monotonic_ns()
        frame = Frame("requests", 0, "bgr8", 224, 224, now, now, slot)
        self._model.batcher.offer(self._route, frame, now)

    def _answered(self, model, lane, completed) -> None:
        frames = completed.tag.frames
        self._failure = completed.error or self._failure
        lane.release(completed.buffers)
        model.finish()
        now = time.monotonic_ns()
        for frame in frames:
            self._latencies.append((now - frame.captured_mono_ns) / 1e6)
            if self._left > 0:
                self._left -= 1
                self._ask()
            else:
                self._open -= 1
        if not self._open:
            self._done.set()
