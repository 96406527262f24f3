"""One measurement from its options to its report: opens device, engine and lanes, and closes them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import msgspec

from edgert import __version__
from edgert.device.opened import OpenDevice, open_device
from edgert.execute.device_lane import SETS_PER_LANE
from edgert.execute.engine import Engine, GraphCounts, Lane
from edgert.frames.result import Array
from edgert.interrupt import Interrupt
from edgert.perf.bare import BareFigures, BareLoop, demand_bare, run_bare
from edgert.perf.drive import Bell, Drive, Rig
from edgert.perf.fills import open_fills
from edgert.perf.inputs import batch_size, make_batches
from edgert.perf.layers import LayerTimes, demand_profiler, profile_layers
from edgert.perf.load import make_load
from edgert.perf.measure import Figures, figures_of, unserved_warning, warnings_of
from edgert.perf.nvtx import RangedLane, Ranges, no_ranges, open_ranges
from edgert.perf.options import Level, PerfOptions, Shape
from edgert.perf.report import PerfReport, Setup
from edgert.perf.sweep import best_of, sweep
from edgert.perf.target import Target, find_target, input_shapes
from edgert.pipeline.warm_up import warm_up
from edgert.schedule.turns import SHORT_TURN_S

BARE_RUNS = 3  # of the plain loop, in turn with edgert's own: a machine's speed drifts


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """A target that is open and warm."""

    options: PerfOptions
    target: Target
    device: OpenDevice
    engine: Engine
    rig: Rig
    batches: list[dict[str, Array]]
    batch: int
    threads: int
    ranges: Ranges


def run_perf(options: PerfOptions, tell: Callable[[Figures], None]) -> PerfReport:
    """Measure, and tell each level's figures as soon as they are there.

    Raises:
        EdgertError: the target cannot be loaded, or a batch of it fails.
        KeyboardInterrupt: it was interrupted before anything was measured.
    """
    target = find_target(options)
    ranges = open_ranges() if options.nvtx else no_ranges
    if options.bare:
        demand_bare(target)
    with ExitStack() as undo:
        undo.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SHORT_TURN_S)  # as the service's
        bench = _open(options, target, ranges, undo)
        with Interrupt() as interrupt:
            return _measure(bench, tell, interrupt.is_asked)


def _open(options: PerfOptions, target: Target, ranges: Ranges, undo: ExitStack) -> Bench:
    device = open_device(target.device)
    undo.callback(device.close)
    undo.enter_context(device.driver.current())
    lanes = options.lanes or target.lanes
    threads = options.threads or target.engine.threads or max(1, len(os.sched_getaffinity(0)) // lanes)
    engine = target.load(device, threads)
    undo.callback(engine.close)
    if options.layers:
        demand_profiler(engine)
    shapes = input_shapes(target, engine.info)
    batches = make_batches(engine.info, options, shapes, _optimum(engine), target.prepare)
    return Bench(
        options=options,
        target=target,
        device=device,
        engine=engine,
        rig=_open_rig(options, target, device, engine, batches, lanes, ranges, undo),
        batches=batches,
        batch=batch_size(engine.info, options.batch),
        threads=threads,
        ranges=ranges,
    )


def _open_rig(
    options: PerfOptions,
    target: Target,
    device: OpenDevice,
    engine: Engine,
    batches: list[dict[str, Array]],
    lanes: int,
    ranges: Ranges,
    undo: ExitStack,
) -> Rig:
    """Open the lanes and run each once, so that the first request meets no cold engine."""
    fills = open_fills(batches, device, is_driven=engine.is_driven)
    undo.callback(fills.close)
    batch, bell, opened = batch_size(engine.info, options.batch), Bell(), list[Lane]()
    for index in range(lanes):
        lane = engine.open_lane(batch, bell.ring, target.lane_options(options))
        undo.callback(lane.close)
        warm_up(lane, target.title, fills.next())
        opened.append(RangedLane(lane, ranges, f"lane {index}") if options.nvtx else lane)
    engine.warmed()
    return Rig(opened, fills.next, bell, engine.is_driven)


def _optimum(engine: Engine) -> dict[str, Shape]:
    """Return the whole shapes that the engine was tuned for, by input, as far as it says."""
    profiles = engine.details().profiles
    return {name: own.optimum for name, own in profiles[0].items()} if profiles else {}


def _measure(bench: Bench, tell: Callable[[Figures], None], is_stopping: Callable[[], bool]) -> PerfReport:
    options, lanes = bench.options, len(bench.rig.lanes)
    levels = options.levels(lanes * (SETS_PER_LANE if bench.rig.is_driven else 1))
    run_level = partial(_measure_level, bench, is_stopping)
    measured = sweep(levels, run_level, options.latency_limit_ms, tell)
    if not measured:
        raise KeyboardInterrupt
    was_cut_off = is_stopping() and len(measured) > 1
    best = best_of(measured[:-1] if was_cut_off else measured)
    report = PerfReport(
        setup=_setup(bench),
        levels=tuple(measured),
        best=None if best is None else measured.index(best),
        warnings=(),
    )
    return _completed(bench, report, is_stopping)


def _measure_level(bench: Bench, is_stopping: Callable[[], bool], level: Level) -> Figures | None:
    if is_stopping():
        return None
    load = make_load(level, bench.options.arrivals, bench.options.seed)
    with bench.ranges(level.title):
        driven = Drive(bench.rig, load, is_stopping).run(bench.options.window)
    if not driven.samples:  # interrupted during the warm-up
        return None
    return figures_of(level, bench.batch, driven.samples, driven.unserved_ms)


def _completed(bench: Bench, report: PerfReport, is_stopping: Callable[[], bool]) -> PerfReport:
    """Return the report with what else was asked for, unless somebody does not want to wait for it."""
    options, lanes, headline = bench.options, len(bench.rig.lanes), report.headline
    counts = _graph_counts(bench.rig.lanes)
    bare: BareFigures | None = None
    ratios: tuple[float, ...] = ()
    layers: tuple[LayerTimes, ...] = ()
    if options.bare and not is_stopping():
        loop = BareLoop(bench.target, bench.engine.info, bench.device, bench.batches, lanes, bench.threads)
        bare, ratios = _against_bare(bench, loop, headline, is_stopping)
    if options.layers and not is_stopping():
        layers = profile_layers(
            bench.engine, bench.batch, bench.rig.next_fill, is_stopping, bench.target.title
        )
    return msgspec.structs.replace(
        report,
        warnings=tuple(_warnings(bench, report, counts)),
        graphs=counts,
        bare=bare,
        bare_ratios=ratios,
        layers=layers,
        is_interrupted=is_stopping(),
    )


def _against_bare(
    bench: Bench, loop: BareLoop, headline: Figures, is_stopping: Callable[[], bool]
) -> tuple[BareFigures | None, tuple[float, ...]]:
    """Return the plain loop's last figures, and edgert's throughput by its, of runs in turn."""
    bare: BareFigures | None = None
    ours: Figures | None = headline
    ratios: list[float] = []
    for turn in range(BARE_RUNS):
        if turn:
            ours = _measure_level(bench, is_stopping, headline.level)
        latest = run_bare(loop, bench.batch, bench.options.window, is_stopping)
        if ours is None or latest is None:  # interrupted
            break
        bare = latest
        ratios.append(round(ours.throughput_per_s / bare.throughput_per_s, 4))
    return bare, tuple(ratios)


def _graph_counts(lanes: Sequence[Lane]) -> GraphCounts:
    counts = [lane.graph_counts() for lane in lanes]
    return GraphCounts(
        sum(own.captured for own in counts),
        sum(own.launched for own in counts),
        sum(own.enqueued for own in counts),
    )


def _warnings(bench: Bench, report: PerfReport, counts: GraphCounts) -> Iterator[str]:
    is_device = bench.rig.is_driven and bench.options.device_times
    if bench.target.lane_options(bench.options).graphs and bench.rig.is_driven and not counts.launched:
        yield "no batch ran as a graph: the engine cannot be captured, and the log says why"
    yield from warnings_of(report.headline, is_device=is_device, lanes=len(bench.rig.lanes))
    yield from (
        unserved_warning(figures)
        for figures in report.levels
        if figures.unserved and figures is not report.headline
    )


def _setup(bench: Bench) -> Setup:
    options, target = bench.options, bench.target
    attributes = bench.device.driver.attributes()
    machine = f"{attributes.get('machine', 'host')}, {attributes.get('cores', '?')} cores"
    files = len(options.inputs)
    return Setup(
        model=target.title,
        runtime=bench.engine.info.runtime,
        device=str(attributes["name"]) if target.device == "cuda" else machine,
        is_device=target.device == "cuda",
        edgert=__version__,
        batch=bench.batch,
        lanes=len(bench.rig.lanes),
        graphs=target.lane_options(options).graphs if target.device == "cuda" else 0,
        device_times=options.device_times,
        threads=0 if target.device == "cuda" else bench.threads,
        input=f"{len(bench.batches)} batches from files" if files else "random",
        seed=options.seed,
        arrivals=options.arrivals,
        warm_up_ms=options.warm_up_ms,
        duration_s=options.duration_s,
        latency_limit_ms=options.latency_limit_ms,
    )
