"""A model that is loaded and unloaded again and again while another one works: what is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from edgert.stats import LiveCount
from tests.bench.figures import Row
from tests.fakes.line import Line
from tests.fakes.store import Site, mean_model
from tests.gpu.plans import batches, build_plan
from tests.gpu.resnet import write_resnet50

CYCLES = 200
FIRST = 5  # cycles before counting: what the driver keeps for good, it has after these
LEAK_BYTES = 4 << 20  # free memory comes and goes in blocks of 2 MiB
FRAMES_PER_S = 500
WAIT_S = 30.0

CONFIG = "max_batch_size: 1\n"
ENGINE = '[engine]\nruntime = "tensorrt_rtx"\n'
RESNET = ENGINE + '[prepare]\nfit = "stretch"\n[decode]\nkind = "classify"\ntop_k = 1\n'
STEADY = ENGINE + '[prepare]\nfit = "stretch"\n'
PIPELINE = f"""\
[sources.s]
uri = "replay:noise?width=64&height=48&frames=10"
loop = true
fps = {FRAMES_PER_S}
models = ["steady"]
[sinks.lines]
type = "lines"
path = "/dev/null"
[service]
log_level = "warning"
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield the row of cycles."""
    cycles = CYCLES // 10 if quick else CYCLES
    with Line(write_site(folder).load(PIPELINE)) as line:
        plan = line.file.plan("resnet50")
        for _ in range(FIRST):
            cycle(line, plan)
        _wait_for_frames(line, FRAMES_PER_S)
        used, live, free = held(line)
        begun = time.perf_counter()
        for _ in range(cycles):
            cycle(line, plan)
        took_s = time.perf_counter() - begun
        _wait_for_frames(line, FRAMES_PER_S)
        used_after, live_after, free_after = held(line)
        report = line.drain()
    link = report.sources["s"].models["steady"]
    data = {
        "cycles": cycles,
        "seconds_a_cycle": took_s / cycles,
        "device_bytes_lost": free - free_after,
        "counted_bytes_lost": used_after - used,
        "live": _changes(live, live_after),
        "admitted": link.admitted,
        "published": link.published,
        "dropped": link.dropped,
        "failed": sum(version.failed for version in report.models["steady"].versions),
    }
    yield _row(data)


def _row(data: dict) -> Row:
    failed = data["admitted"] - data["published"]
    value = (
        f"{data['device_bytes_lost'] / 2**20:.1f} MiB lost, live counts {data['live'] or 'as before'}, "
        f"{failed} of {data['admitted']} requests failed; {data['seconds_a_cycle']:.3f} s a cycle"
    )
    is_met = (
        data["device_bytes_lost"] <= LEAK_BYTES
        and not data["counted_bytes_lost"]
        and not data["live"]
        and not failed
        and not data["dropped"]
    )
    figure = f"{data['cycles']} cycles of ResNet-50 beside another model's traffic"
    return Row(figure, value, "<= 4 MiB, 0, 0", is_met, data)


def cycle(line: Line, plan) -> None:
    """Load the model and unload it."""
    line.models.load(plan)
    line.models.unload("resnet50")


def held(line: Line) -> tuple[int, dict[str, int], int]:
    """Return counted bytes, open resources but for slots, which come and go, and the device's free bytes."""
    live = {name: count for name, count in LiveCount.snapshot().items() if name != "claimed slot"}
    return line.assembly.allocations().used_bytes, live, line.assembly.device.driver.memory_info()[0]


def write_site(folder: Path) -> Site:
    """Write the store: a tiny model for the traffic, and ResNet-50."""
    site = Site(folder)
    steady = site.add("steady", config=CONFIG, settings=STEADY)
    source = steady / "source.onnx"
    source.write_bytes(mean_model())
    build_plan(source, steady / "1" / "model.plan", batches("image", (3, 8, 8), 1))
    resnet = site.add("resnet50", config=CONFIG, settings=RESNET)
    source = write_resnet50(resnet / "source.onnx", batch=1)
    build_plan(source, resnet / "1" / "model.plan")
    return site


def _changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    names = sorted({*before, *after})
    changes = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return {name: change for name, change in changes.items() if change}


def _wait_for_frames(line: Line, count: int) -> None:
    """Wait until so many more results were published: by then every slot was in use once."""

    def published():
        return line.assembly.source_report("s").models["steady"].published

    begin, deadline = published(), time.monotonic() + WAIT_S
    while published() < begin + count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{published() - begin} of {count} frames came out in {WAIT_S} s.")
        time.sleep(0.01)
