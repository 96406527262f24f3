"""A kernel that reads memory of nobody: the device is lost to the process, which says so and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.plans import batches, build_plan

pytestmark = pytest.mark.gpu

NOBODYS_ADDRESS = 4096
SCRIPT = f"""
import sys
from pathlib import Path
from edgert.device.opened import open_device
from edgert.execute.options import EngineOptions
from edgert.execute.tensorrt_engine import load_tensorrt_engine
from edgert.prepare.kernels import KernelPreparer, load_kernel_image
from edgert.prepare.options import PrepareOptions

device = open_device("cuda")
facts = device.driver.attributes()
image = load_kernel_image(facts["cuda_version"], tuple(map(int, facts["compute_capability"].split("."))))
preparer = KernelPreparer(PrepareOptions(fit="stretch"), (3, 64, 64), "float32", device.driver, image)
engine = load_tensorrt_engine(Path(sys.argv[1]), "tensorrt_rtx", EngineOptions(), device, "m")
with device.driver.current():
    lane = engine.open_lane(2, lambda: None)

    def fill(buffers):
        tensor = buffers.inputs({{"x": (1, 3, 64, 64)}})["x"]
        preparer.place({NOBODYS_ADDRESS}, "bgr8", 480, 640, tensor.address, buffers.stream)

    lane.submit(lane.acquire(), fill, None)
    done = []
    while not done:
        done = lane.poll()
    print(type(done[0].error).__name__)
    lane.release(done[0].buffers)
    lane.close()
    engine.close()
device.close()
print("closed")
"""


def test_a_lost_device_is_told_and_everything_still_closes(make_onnx):
    shape = ("float32", ["n", 3, 64, 64])
    model = make_onnx([("Add", ["x", "x"], ["y"])], {"x": shape}, {"y": shape})
    plan = build_plan(model, model.with_name("model.plan"), batches("x", (3, 64, 64), 2))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(plan)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["DeviceLostError", "closed"], done.stderr
    assert done.returncode == 0, done.stderr
