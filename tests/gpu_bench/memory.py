"""What eight lanes cost in memory of the host, against eight contexts by hand; each in its own process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Row
from tests.gpu.plans import build_plan
from tests.gpu.resnet import write_resnet50

WANTED_MB = 30
RUN_TIMEOUT_S = 300
REPEATS = 3

Sizes = dict[str, int]  # rss_bytes, pss_bytes


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for processes that compile the kernels, and one for those that find them kept."""
    plan = folder / "resnet50" / "1" / "model.plan"
    plan.parent.mkdir(parents=True)
    build_plan(write_resnet50(plan.with_suffix(".onnx"), batch=1), plan)
    yield _row("kernels compiled", *both(folder / "new", plan))
    kept = [both(folder / "kept", plan) for _ in range(1 + (1 if quick else REPEATS))][1:]
    ours, by_hand = (_median(side) for side in zip(*kept, strict=True))
    yield _row("kernels kept from the last start", ours, by_hand)


def both(cache: Path, plan: Path) -> tuple[Sizes, Sizes]:
    """Return edgert's sizes and those of the process by hand, which keep compiled kernels below `cache`."""
    cache.mkdir(exist_ok=True)
    by_hand = _run(cache, "memory_by_hand", str(plan), str(cache / "by_hand.cache"))
    return _run(cache, "memory_edgert", str(plan)), by_hand


def _run(cache: Path, module: str, *arguments: str) -> Sizes:
    command = [sys.executable, "-m", f"tests.gpu_bench.{module}", *arguments]
    environment = {**os.environ, "EDGERT_CACHE": str(cache)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    sizes: Sizes = json.loads(done.stdout.splitlines()[-1])
    return sizes


def _median(side: tuple[Sizes, ...]) -> Sizes:
    return {name: int(statistics.median(sizes[name] for sizes in side)) for name in side[0]}


def _row(what: str, ours: Sizes, by_hand: Sizes) -> Row:
    more_mb = (ours["rss_bytes"] - by_hand["rss_bytes"]) / 1e6
    told = [
        f"{name} {ours[key] / 1e6:.1f} against {by_hand[key] / 1e6:.1f}"
        for name, key in (("RSS", "rss_bytes"), ("PSS", "pss_bytes"))
    ]
    return Row(
        f"8 lanes of ResNet-50 against 8 contexts by hand, {what}",
        f"{more_mb:+.1f} MB ({', '.join(told)})",
        f"<= {WANTED_MB} MB",
        more_mb <= WANTED_MB,
        {"edgert": ours, "by_hand": by_hand},
    )
