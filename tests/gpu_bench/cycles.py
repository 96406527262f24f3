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
from tests.gpu_bench.bare import BareLoop
from tests.gpu_bench.memory_by_hand import sizes

CYCLES = 200
FIRST = 5  # cycles before counting: what the driver keeps for good, it has after these
LEAK_BYTES = 4 << 20  # above what the runtime loses by hand; free memory comes and goes in blocks of 2 MiB
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
        used, live, free, rss = held(line)
        begun = time.perf_counter()
        for _ in range(cycles):
            cycle(line, plan)
        took_s = time.perf_counter() - begun
        _wait_for_frames(line, FRAMES_PER_S)
        used_after, live_after, free_after, rss_after = held(line)
        report = line.drain()
        by_hand = _lost_by_hand(line, folder / "store" / "resnet50" / "1" / "model.plan", cycles)
    link = report.sources["s"].models["steady"]
    data = {
        "cycles": cycles,
        "seconds_a_cycle": took_s / cycles,
        "device_bytes_lost": free - free_after,
        "device_bytes_lost_by_hand": by_hand[0],
        "rss_bytes_grown": rss_after - rss,
        "rss_bytes_grown_by_hand": by_hand[1],
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
    lost, lost_by_hand = data["device_bytes_lost"] / 2**20, data["device_bytes_lost_by_hand"] / 2**20
    grown, grown_by_hand = data["rss_bytes_grown"] / 1e6, data["rss_bytes_grown_by_hand"] / 1e6
    value = (
        f"{lost:.1f} MiB lost (by hand {lost_by_hand:.1f}), RSS +{grown:.0f} MB (+{grown_by_hand:.0f}), "
        f"live counts {data['live'] or 'as before'}, {failed} of {data['admitted']} requests failed; "
        f"{data['seconds_a_cycle']:.3f} s a cycle"
    )
    is_met = (
        data["device_bytes_lost"] <= data["device_bytes_lost_by_hand"] + LEAK_BYTES
        and not data["counted_bytes_lost"]
        and not data["live"]
        and not failed
        and not data["dropped"]
    )
    figure = f"{data['cycles']} cycles of ResNet-50 beside another model's traffic"
    return Row(figure, value, "<= by hand + 4 MiB, 0", is_met, data)


def cycle(line: Line, plan) -> None:
    """Load the model and unload it."""
    line.models.load(plan)
    line.models.unload("resnet50")


def _lost_by_hand(line: Line, plan: Path, cycles: int) -> tuple[int, int]:
    """Return by how many bytes the device's free memory shrinks, and RSS grows, where nobody uses edgert."""
    driver = line.assembly.device.driver
    with driver.current():
        first = BareLoop(plan, 1)
        kernels = first.kernels()
        del first
        for _ in range(FIRST):
            BareLoop(plan, 1, kernels)
        free, rss = driver.memory_info()[0], sizes()["rss_bytes"]
        for _ in range(cycles):
            BareLoop(plan, 1, kernels)
        return free - driver.memory_info()[0], sizes()["rss_bytes"] - rss


def held(line: Line) -> tuple[int, dict[str, int], int, int]:
    """Return counted bytes, open resources but for slots, which come and go, the device's free bytes, RSS."""
    live = {name: count for name, count in LiveCount.snapshot().items() if name != "claimed slot"}
    free = line.assembly.device.driver.memory_info()[0]
    return line.assembly.allocations().used_bytes, live, free, sizes()["rss_bytes"]


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
