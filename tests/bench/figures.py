"""The figures of README. Each function measures one and returns its rows."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edgert.demo.broker import running_broker, stop_child
from edgert.demo.watch import Watcher
from tests.bench import harness

CORES = len(os.sched_getaffinity(0))
REPEATS = 7


class Row(NamedTuple):
    """One line of the table; `limit` is empty for what is only reported."""

    figure: str
    value: str
    limit: str
    is_met: bool
    data: dict[str, Any]


def lanes_against_bare_loop(folder: Path, model: Path, clip: Path, frames: int) -> Iterator[Row]:
    """Frames/s of `replay:` to the lines sink with 1 and 2 lanes, against 1 and 2 bare threads.

    Each ratio is of two runs one after the other, in turns first, because the machine's speed drifts;
    the figure is the median of the ratios.
    """
    for lanes in (1, 2):
        harness.write_coco(folder / "store", model, lanes=lanes)
        source = {"uri": f"replay:{clip}?frames=100&total={frames}", "models": ["coco"]}
        threads = max(1, CORES // lanes)

        def ours(source: dict[str, Any] = source) -> float:
            return harness.rate(harness.run_edgert(folder, [source]).published_ns)

        def bare(lanes: int = lanes, threads: int = threads) -> float:
            return harness.rate(harness.run_bare(folder, model, clip, frames, lanes, threads)["done_ns"])

        pairs = [_in_turns(ours, bare, index) for index in range(REPEATS)]
        ratios = sorted(fps / bare_fps for fps, bare_fps in pairs)
        ratio = statistics.median(ratios)
        rates = f"{_median(pairs, 0):.0f} against {_median(pairs, 1):.0f}"
        value = f"{ratio:.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {rates})"
        data = {"ratios": ratios, "pairs_fps": pairs}
        yield Row(
            f"frames/s, {lanes} lane(s) against {lanes} bare thread(s)", value, ">= 0.95", ratio >= 0.95, data
        )


def _in_turns(ours: Callable[[], float], bare: Callable[[], float], index: int) -> tuple[float, float]:
    if index % 2:
        bare_fps = bare()
        return ours(), bare_fps
    return ours(), bare()


def _median(pairs: list[tuple[float, float]], side: int) -> float:
    return statistics.median(pair[side] for pair in pairs)


def many_sources(folder: Path, model: Path, clip: Path, seconds: float, total_fps: float) -> Iterator[Row]:
    """1, 4, 16 and 64 sources: as many frames as the lane takes, then the same paced total rate."""
    harness.write_coco(folder / "store", model, max_batch=4)
    yield from _sources(folder, clip, frames=int(seconds * total_fps), total_fps=0)
    yield from _sources(folder, clip, frames=int(seconds * total_fps), total_fps=total_fps)


def _sources(folder: Path, clip: Path, frames: int, total_fps: float) -> Iterator[Row]:
    first = 0.0
    offered = f"{total_fps:g} frames/s offered" if total_fps else "as fast as they are taken"
    for count in (1, 4, 16, 64):
        uri = f"replay:{clip}?frames=10&total={frames // count}"
        run = harness.run_edgert(folder, [{"uri": uri, "fps": total_fps / count, "models": ["coco"]}] * count)
        links = [source["models"]["coco"] for source in run.report["sources"].values()]
        reached = harness.rate(run.published_ns)
        first = first or reached
        p99_ms = max(link["latency"]["p99_ms"] for link in links)
        data = {"fps": reached, "p99_ms": p99_ms, "published": sum(link["published"] for link in links)}
        value = f"{reached:.1f} frames/s ({reached / first:.3f} of the first), p99 {p99_ms:.0f} ms"
        yield Row(f"{count} source(s), {offered}", value, ">= 0.95", reached >= 0.95 * first, data)


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
    source = {
        "uri": f"replay:{clip}?frames=100",
        "loop": True,
        "models": ["coco"],
    }  # as many as the loop holds
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
    """Return how much PSS grows between the 10,000th frame and `frames` more."""
    uri = f"replay:noise?width=640&height=480&total={frames + 10_000}"
    out = folder / "growth.json"
    command = [sys.executable, str(harness.HERE / "growth.py"), str(folder), uri, str(out)]
    subprocess.run(command, check=True, timeout=harness.RUN_TIMEOUT_S)
    samples = json.loads(out.read_text())
    early = next(pss for published, pss in samples if published >= 10_000)
    return int(samples[-1][1] - early)
