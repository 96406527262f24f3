"""`edgert perf` on the command line. Imports nothing large before it runs: `edgert --help` shall be quick."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.perf.arguments import add_arguments

if TYPE_CHECKING:
    from edgert.perf.measure import Figures
    from edgert.perf.options import PerfOptions
    from edgert.perf.report import PerfReport

HELP = "Measure how fast a model is: latency and throughput under one load or many."
EXAMPLES = """examples:
  edgert perf store/coco                              every lane kept busy, as trtexec does
  edgert perf coco --store store --batch 8 --lanes 4 --no-graphs
  edgert perf store/coco --concurrency 1:16 --html coco.html
  edgert perf store/coco --rate 50:500:50 --latency-limit-ms 20
  edgert perf model.plan --input image=street.jpg --layers --bare
loads: --concurrency keeps so many requests outstanding; --rate lets them come at so many a second whether
  earlier ones were answered or not, and counts their waiting. A request is one batch. A:B:STEP is a sweep.
Ctrl-C ends with what was measured so far"""

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Measure and print the report. Raises EdgertError, KeyboardInterrupt."""
    from edgert.perf.run import run_perf

    asked = read_options(options)
    _check_folder(options.html)
    levels = asked.levels(1)
    report = run_perf(asked, _tell if len(levels) > 1 else lambda _: None)
    if options.html is not None:
        _write_page(options.html, report)
    sys.stdout.write(_json(report) if options.json else _text(report))
    return ExitCode.OK


def read_options(options: argparse.Namespace) -> PerfOptions:
    """Return the command line, typed. Raises ConfigError for what contradicts itself."""
    from edgert.perf.options import InputFile, PerfOptions

    if options.arrivals and not options.rate:
        raise ConfigError("--arrivals: is for --rate; with --concurrency each answer brings the next request")
    return PerfOptions(
        model=options.model,
        store=options.store,
        runtime=options.runtime,
        batch=options.batch,
        lanes=options.lanes,
        threads=options.threads or 0,
        graphs=options.graphs,
        device_times=options.device_times,
        concurrency=options.concurrency or (),
        rate=options.rate or (),
        arrivals=options.arrivals or "poisson",
        latency_limit_ms=options.latency_limit_ms,
        duration_s=options.duration,
        warm_up_ms=options.warm_up_ms,
        iterations=options.iterations,
        inputs=tuple(InputFile(name, file) for name, file in options.input),
        shapes=dict(options.shape),
        seed=options.seed,
        layers=options.layers,
        nvtx=options.nvtx,
        bare=options.bare,
    )


def _tell(figures: Figures) -> None:
    from edgert.perf.report_text import progress_line

    sys.stderr.write(f"{progress_line(figures)}\n")


def _text(report: PerfReport) -> str:
    from edgert.perf.report_text import text_lines

    return "\n".join([*text_lines(report), ""])


def _json(report: PerfReport) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def _check_folder(file: Path | None) -> None:
    """Say before anything is measured what would fail after it."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ConfigError(f"--html {file}: expected a file in a folder that exists")


def _write_page(file: Path, report: PerfReport) -> None:
    from edgert.perf.report_html import html_page

    try:
        file.write_text(html_page(report), "utf-8")
    except OSError as error:
        raise ConfigError(f"--html {file}: cannot be written: {error.strerror}") from error
