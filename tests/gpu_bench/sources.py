"""16 sources of 1080p pictures that are in their slots already, through the whole line to a sink.

What is left of a camera's work is to hand a slot over; everything after it is the service's own: copy,
kernel, detector, decoding, JSON lines.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import cv2
import msgspec
import numpy as np

from edgert.build.onnx_file import read_onnx
from edgert.build.reduce import keep_best_anchors
from edgert.capture.replay import decode_clip
from edgert.demo.material import default_cache
from edgert.demo.store import COCO
from edgert.device.heap import return_large_blocks
from edgert.frames.frame import Frame
from edgert.frames.slots import SlotRing
from edgert.pipeline.assembly import Assembly
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.open_model import build_model
from edgert.schedule.turns import SHORT_TURN_S
from edgert.stats import stage_cpu_s
from tests.bench.figures import Row
from tests.gpu.plans import batches, build_plan

SOURCES = 16
SLOTS = 8  # of each source
LANES = 2
MAX_BATCH = 16
WIDTH, HEIGHT = 1920, 1080
KEPT_ANCHORS = 100
WANTED_FPS = 3000
WARM_FRAMES = 100 * SOURCES
WAIT_S = 60.0

CONFIG = f"""\
platform: "tensorrt_plan"
max_batch_size: {MAX_BATCH}
dynamic_batching {{ }}
instance_group [ {{ count: {LANES} }} ]
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield the rows of sources, for the detector as it is and with its best anchors only."""
    seconds = 2.0 if quick else 5.0
    pictures = street_pictures()
    previous = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN_S)  # this and the next as the service does
    return_large_blocks()
    try:
        yield from _variant(folder, pictures, seconds, KEPT_ANCHORS)
        if not quick:
            yield from _variant(folder, pictures, seconds, 0)
    finally:
        sys.setswitchinterval(previous)
        gc.unfreeze()


def _variant(folder: Path, pictures: list[np.ndarray], seconds: float, kept: int) -> Iterator[Row]:
    """Yield the rates, and what bounds them; `kept` 0 is the detector as it is, which is only reported."""
    title = f"{SOURCES} sources of 1080p, {f'best {kept}' if kept else 'all'} anchors"
    file = write_site(folder / (f"best{kept}" if kept else "all"), kept)
    with running(file, pictures) as line:
        run = line.measure(seconds)
    yield _rate_row(title, run, "" if not kept else f">= {WANTED_FPS}")
    yield _cpu_row(title, run)
    with running(file, pictures, is_timed=True) as line:
        yield _lanes_row(title, line.measure(seconds))


class Run(msgspec.Struct):
    """What one measurement saw."""

    wall_s: float
    frames: int
    p50_ms: float
    p99_ms: float
    cpu_s: dict[str, float]  # by stage
    device: DeviceTotals

    @property
    def fps(self) -> float:
        return self.frames / self.wall_s

    @property
    def cpu_share(self) -> float:
        """Of one core, which is what the interpreter's lock gives to all threads together."""
        return sum(self.cpu_s.values()) / self.wall_s


class DeviceTotals(msgspec.Struct):
    """What the lanes did, by the device's own clock; the times are 0 where lanes are not timed."""

    batches: int = 0
    frames: int = 0
    fill_ms: float = 0.0
    compute_ms: float = 0.0
    fetch_ms: float = 0.0

    def since(self, before: DeviceTotals) -> DeviceTotals:
        now, then = msgspec.structs.astuple(self), msgspec.structs.astuple(before)
        return DeviceTotals(*(a - b for a, b in zip(now, then, strict=True)))


def _rate_row(title: str, run: Run, limit: str) -> Row:
    frames = run.device.frames / max(run.device.batches, 1)
    value = (
        f"{run.fps:.0f} frames/s; p50 {run.p50_ms:.2f}, p99 {run.p99_ms:.2f} ms from admit to sink; "
        f"{frames:.1f} a batch"
    )
    data = {"fps": run.fps, "p50_ms": run.p50_ms, "p99_ms": run.p99_ms, "frames_a_batch": frames}
    return Row(title, value, limit, not limit or run.fps >= WANTED_FPS, data)


def _cpu_row(title: str, run: Run) -> Row:
    by_stage = {stage: round(spent / run.frames * 1e6, 1) for stage, spent in run.cpu_s.items()}
    told = ", ".join(f"{stage} {took}" for stage, took in by_stage.items() if took)
    value = f"{told} µs a frame; {run.cpu_share:.2f} of a core"
    return Row(f"{title}: CPU", value, "", True, {"us_a_frame": by_stage, "cores": run.cpu_share})


def _lanes_row(title: str, run: Run) -> Row:
    """Shares are of the time of one lane; filling overlaps the computing of the batch before."""
    device, lanes_ms = run.device, run.wall_s * 1e3 * LANES
    shares = {
        "filling": device.fill_ms / lanes_ms,
        "computing": device.compute_ms / lanes_ms,
        "fetching": device.fetch_ms / lanes_ms,
    }
    bounds = {f"the lanes' {name}": share for name, share in shares.items()} | {
        "the interpreter": run.cpu_share
    }
    bound = max(bounds, key=lambda name: bounds[name])
    told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    value = f"{told} of the time at {run.fps:.0f} frames/s (timed); bound by {bound}"
    return Row(f"{title}: lanes", value, "", True, {"shares": shares, "bounds": bounds, "fps": run.fps})


class Line:
    """A running line whose sources are rings of full slots."""

    def __init__(self, assembly: Assembly, feeder: Feeder, totals: DeviceTotals) -> None:
        self._assembly = assembly
        self._feeder = feeder
        self._totals = totals

    def measure(self, seconds: float) -> Run:
        """Wait until frames flow, then count for `seconds`."""
        self._wait_warm()
        cpu, frames, totals = stage_cpu_s(), self._published(), msgspec.structs.replace(self._totals)
        begun = time.perf_counter()
        time.sleep(seconds)
        wall_s = time.perf_counter() - begun
        frames = self._published() - frames
        spent = {stage: total - cpu.get(stage, 0.0) for stage, total in stage_cpu_s().items()}
        sink = self._assembly.sink_report()["lines"]
        self._demand_whole(frames)
        totals = msgspec.structs.replace(self._totals).since(totals)
        return Run(wall_s, frames, sink.latency.p50_ms, sink.latency.p99_ms, spent, totals)

    def _wait_warm(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self._published() < WARM_FRAMES:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._published()} of {WARM_FRAMES} frames came out in {WAIT_S} s.")
            time.sleep(0.01)

    def _demand_whole(self, frames: int) -> None:
        lost = {f"{link.source}: {link.dropped.snapshot()}" for link in self._links() if link.dropped.total()}
        lost |= {f"sink: {s.dropped}" for s in self._assembly.sink_report().values() if s.dropped}
        if not frames or lost or not self._feeder.is_alive():
            is_alive = self._feeder.is_alive()
            raise RuntimeError(f"{frames} frames came out, the feeder lives: {is_alive}, lost: {lost}")

    def _published(self) -> int:
        return sum(link.published for link in self._links())

    def _links(self) -> list:
        return [link for links in self._assembly._links.values() for link in links]


@contextmanager
def running(file: PipelineFile, pictures: list[np.ndarray], *, is_timed: bool = False) -> Iterator[Line]:
    """Open a line without its sources, and feed it."""
    with ExitStack() as undo:
        assembly = Assembly(file, "bench", Silent())
        assembly.open_device(undo)
        assembly.open_sinks(undo)
        assembly.open_line(undo)
        feeder = Feeder(assembly.pipeline)
        for index in range(SOURCES):
            feeder.add(f"s{index}", assembly.device.slots_of(f"source s{index}"), pictures)
            undo.callback(feeder.rings[-1].close)
        undo.callback(assembly.models.close)
        totals = DeviceTotals()
        if is_timed:
            _time_lanes(assembly)
        assembly.load_models()
        _listen(assembly, totals)
        gc.collect()
        gc.freeze()
        feeder.start()
        undo.callback(feeder.stop)
        yield Line(assembly, feeder, totals)


def _time_lanes(assembly: Assembly) -> None:
    """Let models be opened with lanes that the device times."""

    def open_timed(plan, version):
        model = build_model(plan, version, assembly.device, 1)
        model._lane_options = msgspec.structs.replace(model._lane_options, is_timed=True)
        with assembly.device.driver.current():
            model.open_lanes(plan.lanes)
        return model

    assembly.models._open_model = open_timed


def _listen(assembly: Assembly, totals: DeviceTotals) -> None:
    """Count the batches that lanes complete, on the scheduler's thread."""
    [model] = assembly.models.loaded()
    hand_on = model.on_completed

    def count(model, lane, completed):
        totals.batches += 1
        totals.frames += len(completed.tag.frames)
        if completed.device is not None:
            totals.fill_ms += completed.device.fill_ms
            totals.compute_ms += completed.device.compute_ms
            totals.fetch_ms += completed.device.fetch_ms
        hand_on(model, lane, completed)

    model.on_completed = count


class Feeder(threading.Thread):
    """Admits every slot anew as soon as it is free: one thread for all sources."""

    def __init__(self, pipeline) -> None:
        super().__init__(name="feed", daemon=True)
        self.rings: list[FullRing] = []
        self._pipeline = pipeline
        self._freed: SimpleQueue[FullRing | None] = SimpleQueue()

    def add(self, source: str, allocate, pictures: list[np.ndarray]) -> None:
        """Make a source's ring and fill its slots."""
        ring = FullRing(source, allocate, self._freed)
        self.rings.append(ring)
        ring.fill(pictures)

    def run(self) -> None:
        while (ring := self._freed.get()) is not None:
            self._pipeline.admit(ring.frame())

    def stop(self) -> None:
        """Admit no more frames."""
        self._freed.put(None)
        self.join(WAIT_S)


class FullRing(SlotRing):
    """Slots that keep their pictures; each that comes free is told to the feeder."""

    def __init__(self, source: str, allocate, freed: SimpleQueue) -> None:
        super().__init__(SLOTS, WIDTH * HEIGHT * 3, allocate)
        self._source = source
        self._freed = freed
        self._seq = 0

    def fill(self, pictures: list[np.ndarray]) -> None:
        """Write a picture into every slot, then let all of them be free."""
        slots = [self.acquire_write() for _ in range(SLOTS)]
        for index, slot in enumerate(slots):
            np.copyto(slot.fit((HEIGHT, WIDTH, 3)), pictures[index % len(pictures)])
        for slot in slots:
            slot.abandon()

    def frame(self) -> Frame:
        """Return a new frame in a slot that is free; `admit` commits it."""
        slot, seq, now_ns = self.acquire_write(), self._seq, time.monotonic_ns()
        self._seq += 1
        return Frame(self._source, seq, "bgr8", HEIGHT, WIDTH, now_ns, time.time_ns(), slot)

    def _set_free(self, slot) -> None:
        super()._set_free(slot)
        self._freed.put(self)


class Silent:
    """An Observer that nobody asks. A lost device shows as frames that do not come out."""

    def source_changed(self, source, state, reason) -> None:
        pass

    def model_changed(self, model, state) -> None:
        pass

    def device_lost(self, error) -> None:
        print(error)


def street_pictures() -> list[np.ndarray]:
    """Return pictures of the demo's street clip, enlarged to 1080p."""
    clip = demo_file("clips", "bikes.mp4")
    pictures = decode_clip(clip, 0)
    return [cv2.resize(picture, (WIDTH, HEIGHT)) for picture in pictures[:: len(pictures) // SLOTS]]


def write_site(folder: Path, kept: int) -> PipelineFile:
    """Write a store with the detector, built for batches, and the pipeline file; its sources stay closed."""
    model = folder / "store" / "coco"
    plan = model / "1" / "model.plan"
    plan.parent.mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "edgert.toml").write_text('[engine]\nruntime = "tensorrt_rtx"\n' + COCO.edgert_toml)
    (model / "labels.txt").write_bytes(demo_file("coco", "labels.txt").read_bytes())
    build_plan(_detector(folder, kept), plan, batches("images", (3, 300, 300), MAX_BATCH))
    sources = "".join(
        f'[sources.s{index}]\nuri = "replay:noise"\nmodels = ["coco"]\n' for index in range(SOURCES)
    )
    sink = '[sinks.lines]\ntype = "lines"\npath = "/dev/null"\nqueue = 100_000\n'
    file = folder / "pipeline.toml"
    file.write_text(f'node = "bench"\nstore = "store"\n{sources}{sink}[service]\nlog_level = "warning"\n')
    loaded = PipelineFile.load(file)
    loaded.check()
    return loaded


def _detector(folder: Path, kept: int) -> Path:
    whole = demo_file("coco", "model.onnx")
    if not kept:
        return whole
    reduced = folder / "reduced.onnx"
    file = keep_best_anchors(read_onnx(whole), kept, boxes="boxes", scores="scores")
    reduced.write_bytes(file.message())
    return reduced


def demo_file(*parts: str) -> Path:
    """Return a file of the demo's cache; without it there is no figure."""
    path = default_cache().joinpath(*parts)
    if not path.is_file():
        raise SystemExit(f"{path} is missing; where there is a network: python -m edgert.demo.material")
    return path
