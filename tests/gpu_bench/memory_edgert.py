"""The same with edgert: one engine, eight lanes, each run once.

python -m tests.gpu_bench.memory_edgert PLAN

Prints the process's memory as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from math import prod
from pathlib import Path

from edgert.device.heap import return_large_blocks
from edgert.device.opened import open_device
from edgert.execute.engine import DeviceTensor
from edgert.execute.options import EngineOptions
from edgert.execute.tensorrt_engine import load_tensorrt_engine

LANES = 8
INPUT, SHAPE = "images", (1, 3, 224, 224)
WAIT_S = 60.0


def main(plan: Path) -> None:
    return_large_blocks()  # as the service does
    device = open_device("cuda")
    with device.driver.current():
        engine = load_tensorrt_engine(plan, "tensorrt_rtx", EngineOptions(), device, "model resnet50")
        lanes = [engine.open_lane(1, lambda: None) for _ in range(LANES)]
        for lane in lanes:
            run(lane)
        engine.warmed()
        print(json.dumps(sizes()))
        for lane in lanes:
            lane.close()
        engine.close()
    device.close()


def run(lane) -> None:
    """Run one batch of zeros."""
    lane.submit(lane.acquire(), _fill, None)
    deadline = time.monotonic() + WAIT_S
    while not (done := lane.poll()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"The lane gave no answer in {WAIT_S} s.")
    if done[0].error:
        raise done[0].error
    lane.release(done[0].buffers)


def _fill(buffers) -> None:
    tensor: DeviceTensor = buffers.inputs({INPUT: SHAPE})[INPUT]
    buffers.stream.zero(tensor.address, 2 * prod(SHAPE))


def sizes() -> dict[str, int]:
    """Return RSS and PSS of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return {"rss_bytes": _bytes(status, "VmRSS:"), "pss_bytes": _bytes(rollup, "Pss:")}


def _bytes(lines: list[str], name: str) -> int:
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
