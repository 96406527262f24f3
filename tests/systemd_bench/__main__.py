"""Prints how long edgert takes under a real systemd, and how exposed it is; writes systemd_bench.json.

python -m tests.systemd_bench [--runs 5] [--full] [--out systemd_bench.json]

Needs root and namespaces: systemd runs as process 1 of its own, over an overlay of this machine's files.
--full measures a hung lane with the limits that edgert and its unit ship with, too, which takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from edgert.systemd.board import RECORDED
from tests.bench.figures import Row
from tests.system import systemd_service
from tests.system.systemd_boot import Machine
from tests.system.systemd_service import EDGERT, Services

PICTURE = np.full((8, 8, 3), 7, np.uint8)
SHORT = "WatchdogSec=2\nRestartSec=100ms\n"
HANG_1_S = "[service]\nhang_s = 1.0\n"


def main() -> int:
    options = _parse()
    if reason := systemd_service.why_not():
        print(f"no systemd can be started here: {reason}")
        return 1
    rows: list[Row] = []
    with closing(Machine()) as machine:
        services = Services(machine)
        for row in _figures(services, options.runs, is_full=options.full):
            verdict = "" if not row.limit else "met" if row.is_met else "MISSED"
            print(f"{row.figure:62} {row.value:40} {row.limit:8} {verdict}", flush=True)
            rows.append(row)
    here = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    options.out.write_text(
        json.dumps({"machine": here, "figures": [row._asdict() for row in rows]}, indent=2)
    )
    print(f"\nwritten to {options.out}")
    return 0 if all(row.is_met for row in rows) else 1


def _figures(services: Services, runs: int, *, is_full: bool) -> Iterator[Row]:
    yield from _exposures(services)
    noop = services.add("noop")
    yield _times("start to READY, engine noop", runs, lambda: _start(services, noop))
    mean = services.add("mean", models="mean")
    yield _times("start to READY, ONNX Runtime, a small model", runs, lambda: _start(services, mean))
    yield _times("SIGTERM to clean exit, idle", runs, lambda: _stop(services, noop))
    busy = services.add("busy", drop_in=services.misbehaving)
    yield _times("SIGTERM to clean exit, 0.5 s of work in flight", runs, lambda: _stop_busy(services, busy))
    hang = services.add("hang", HANG_1_S, SHORT + services.misbehaving)
    name = "hang to ready again, hang_s=1 WatchdogSec=2 RestartSec=0.1"
    yield _times(name, runs, lambda: _hang(services, hang))
    if is_full:
        shipped = services.add("shipped", drop_in=services.misbehaving)
        yield _times("hang to ready again, as shipped", 1, lambda: _hang(services, shipped))
    killed = services.add("killed")
    yield _times("SIGKILL to ready again, as shipped (RestartSec=5)", 1, lambda: _kill(services, killed))


def _exposures(services: Services) -> Iterator[Row]:
    for board in ("", *RECORDED):
        wanted = ["--board", board] if board else []
        services.machine.run(EDGERT, "systemd", "install", *wanted)
        command = ("systemd-analyze", "security", "--offline=true", "--no-pager", "edgert@x.service")
        said = services.machine.run(*command).stdout
        exposure = float(re.search(r"exposure level for \S+ ([\d.]+)", said)[1])
        name = f"systemd-analyze security, {f'board {board}' if board else 'as installed here'}"
        yield Row(name, f"{exposure:.1f}", "<= 2.0", exposure <= 2.0, {"exposure": exposure})
    services.machine.run(EDGERT, "systemd", "install")


def _times(name: str, runs: int, measure: Callable[[], float]) -> Row:
    times_s = sorted(measure() for _ in range(runs))
    text = f"{statistics.median(times_s):.2f} s"
    if runs > 1:
        text += f"  ({times_s[0]:.2f} to {times_s[-1]:.2f}, {runs} runs)"
    return Row(name, text, "", True, {"times_s": times_s})


def _start(services: Services, unit: str) -> float:
    services.machine.systemctl("stop", unit)
    return _timed(lambda: services.start(unit))


def _stop(services: Services, unit: str) -> float:
    services.start(unit)
    return _timed(lambda: services.machine.systemctl("stop", unit))


def _stop_busy(services: Services, unit: str) -> float:
    services.start(unit)
    answers = []
    with services.client("busy") as client, services.asked_for("slow"):
        asking = threading.Thread(target=lambda: answers.append(client.infer(PICTURE)))
        asking.start()
        while not services.machine.path("/run/edgert/busy/begun").exists():
            time.sleep(0.01)
        taken_s = _timed(lambda: services.machine.systemctl("stop", unit))
        asking.join()
    if not answers:
        raise RuntimeError("the work in flight was lost")
    return taken_s


def _hang(services: Services, unit: str) -> float:
    machine = services.machine
    machine.systemctl("reset-failed", unit)
    services.start(unit)
    restarts = int(machine.show(unit, "NRestarts")["NRestarts"])
    with services.client(unit.removeprefix("edgert@").removesuffix(".service")) as client:
        client.infer(PICTURE)
        started = time.monotonic()
        with services.asked_for("hang"):
            client.send(PICTURE)
            machine.await_property(unit, "NRestarts", str(restarts + 1), timeout_s=120)
        machine.await_property(unit, "ActiveState", "active")
    taken_s = time.monotonic() - started
    machine.systemctl("stop", unit)
    return taken_s


def _kill(services: Services, unit: str) -> float:
    services.start(unit)
    started = time.monotonic()
    services.machine.systemctl("kill", "-s", "KILL", unit)
    services.machine.await_property(unit, "NRestarts", "1")
    services.machine.await_property(unit, "ActiveState", "active")
    return time.monotonic() - started


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.systemd_bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="a hung lane with the shipped limits, too")
    parser.add_argument("--out", type=Path, default=Path("systemd_bench.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
