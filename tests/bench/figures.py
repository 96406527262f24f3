"""The figures of README. Each function measures one and returns its rows."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edgert.demo.broker import running_broker, stop_child
from edgert.demo.watch import Watcher
from tests.bench import harness

CORES = 2
REPEATS = 5


class Row(NamedTuple):
    """One line of the table; `limit` is empty for what is only reported."""

    figure: str
    value: str
    limit: str
    is_met: bool
    data: dict[str, Any]


def lanes_against_bare_loop(folder: Path, model: Path, clip: Path, frames: int) -> Iterator[Row]:
    """Frames/s of `replay:` to the lines sink with 1 and 2 lanes, against 1 and 2 bare threads.

    The two alternate, because the machine's speed drifts; the ratio is that of the medians.
    """
    for lanes in (1, 2):
        harness.write_coco(folder / "store", model, lanes=lanes)
        source = {"uri": f"replay:{clip}?frames=100&total={frames}", "models": ["coco"]}
        ours, bare = [], []
        for _ in range(REPEATS):
            ours.append(harness.rate(harness.run_edgert(folder, [source]).published_ns))
            result = harness.run_bare(folder, model, clip, frames, lanes, max(1, CORES // lanes))
            bare.append(harness.rate(result["done_ns"]))
        ratio = statistics.median(ours) / statistics.median(bare)
        value = f"{ratio:.3f} ({statistics.median(ours):.1f} against {statistics.median(bare):.1f} frames/s)"
        data = {"ratio": ratio, "edgert_fps": ours, "bare_fps": bare}
        yield Row(f"{lanes} lane(s) against {lanes} bare thread(s)", value, ">= 0.95", ratio >= 0.95, data)


def many_sources(folder: Path, model: Path, clip: Path, seconds: float, total_fps: float) -> Iterator[Row]:
    """The same total frame rate from 1, 4, 16 and 64 sources."""
    harness.write_coco(folder / "store", model, max_batch=4)
    first = 0.0
    for count in (1, 4, 16, 64):
        fps = total_fps / count
        uri = f"replay:{clip}?frames=10&total={int(seconds * fps)}"
        run = harness.run_edgert(folder, [{"uri": uri, "fps": fps, "models": ["coco"]}] * count)
        links = [source["models"]["coco"] for source in run.report["sources"].values()]
        reached = harness.rate(run.published_ns)
        first = first or reached
        p99_ms = max(link["latency"]["p99_ms"] for link in links)
        data = {"fps": reached, "p99_ms": p99_ms, "published": sum(link["published"] for link in links)}
        value = f"{reached:.1f} frames/s ({reached / first:.3f} of the first), p99 {p99_ms:.1f} ms"
        yield Row(
            f"{count} source(s) at {total_fps:g} frames/s in all",
            value,
            ">= 0.95",
            reached >= 0.95 * first,
            data,
        )


def carried_by_one_process(folder: Path, frames: int) -> Iterator[Row]:
    """Frames/s through a no-op engine and no-op preparation, and the CPU time of a frame by stage."""
    harness.write_noop(folder / "store")
    uri = f"replay:noise?width=640&height=480&total={frames}"
    run = harness.run_edgert(folder, [{"uri": uri, "models": ["noop"]}])
    fps = harness.rate(run.published_ns)
    by_stage = {
        stage.partition(" ")[0]: round(seconds / frames * 1e6, 1)
        for stage, seconds in run.report["stage_cpu_s"].items()
        if stage != "MainThread"
    }
    yield Row(
        "no-op engine, 640x480, one process", f"{fps:.0f} frames/s", ">= 3000", fps >= 3000, {"fps": fps}
    )
    text = ", ".join(f"{stage} {took}" for stage, took in by_stage.items())
    yield Row("CPU time a frame by stage", f"{text} µs", "", True, by_stage)


def memory(folder: Path, model: Path, clip: Path, growth_frames: int) -> Iterator[Row]:
    """PSS of `edgert run` against the bare loop's, and its growth with frames."""
    harness.write_coco(folder / "store", model)
    harness.write_noop(folder / "store")
    source = {"uri": f"file:{clip}", "loop": True, "models": ["coco"]}
    file = harness.write_pipeline(folder, [source], '[sinks.lines]\ntype = "lines"\npath = "/dev/null"\n')
    ours = statistics.median(harness.pss_after([*harness.edgert(), "run", str(file)], 8.0))
    bare = harness.run_bare(folder, model, clip, 400, 1, CORES)["pss_bytes"]
    more_mb = (ours - bare) / 1e6
    data = {"edgert_bytes": ours, "bare_bytes": bare}
    value = f"{more_mb:.1f} MB more ({ours / 1e6:.1f} against {bare / 1e6:.1f})"
    yield Row("PSS with one source, against the bare loop", value, "<= 25 MB", more_mb <= 25, data)
    grown_mb = _growth_bytes(folder, growth_frames) / 1e6
    figure = f"PSS growth over {growth_frames} frames, no-op engine"
    yield Row(figure, f"{grown_mb:.2f} MB", "<= 1 MB", grown_mb <= 1, {"bytes": grown_mb * 1e6})


def start_to_first_result(folder: Path, model: Path, clip: Path) -> Iterator[Row]:
    """Process start to the first result: over MQTT for edgert, decoded for the bare loop."""
    harness.write_coco(folder / "store", model)
    with running_broker(folder) as (_, port):
        ours = [_first_result_s(folder, clip, port) for _ in range(REPEATS)]
    bare = []
    for _ in range(REPEATS):
        began_ns = time.monotonic_ns()
        done_ns = harness.run_bare(folder, model, clip, 1, 1, CORES)["done_ns"]
        bare.append((done_ns[0] - began_ns) / 1e9)
    ratio = statistics.median(ours) / statistics.median(bare)
    value = f"{ratio:.2f} ({statistics.median(ours):.2f} against {statistics.median(bare):.2f} s)"
    yield Row(
        "start to first result, against the bare loop",
        value,
        "<= 1.5",
        ratio <= 1.5,
        {"edgert_s": ours, "bare_s": bare},
    )


def _first_result_s(folder: Path, clip: Path, port: int) -> float:
    sinks = f'[sinks.broker]\ntype = "mqtt"\nport = {port}\n'
    file = harness.write_pipeline(
        folder, [{"uri": f"replay:{clip}?frames=100&total=0", "models": ["coco"]}], sinks
    )
    arrivals_ns: list[int] = []
    with Watcher(port, "bench", lambda _: arrivals_ns.append(time.monotonic_ns())) as watcher:
        watcher.is_subscribed.wait(10)
        began_ns = time.monotonic_ns()
        child = subprocess.Popen([*harness.edgert(), "run", str(file)])
        try:
            while not arrivals_ns and child.poll() is None:
                time.sleep(0.005)
        finally:
            stop_child(child, 10.0)
    return (arrivals_ns[0] - began_ns) / 1e9


def _growth_bytes(folder: Path, frames: int) -> int:
    """Return how much PSS grows between the 10,000th frame and `frames` more, by the service's own statistics."""
    uri = f"replay:noise?width=640&height=480&total={frames + 10_000}"
    out = folder / "growth.json"
    command = [sys.executable, str(harness.HERE / "growth.py"), str(folder), uri, str(out)]
    subprocess.run(command, check=True, timeout=harness.RUN_TIMEOUT_S)
    samples = json.loads(out.read_text())
    early = next(pss for published, pss in samples if published >= 10_000)
    return int(samples[-1][1] - early)
