"""What this machine has for edgert, what is missing, and a test of the whole line."""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgert import __version__
from edgert.device.board import board_facts
from edgert.device.driver import Driver
from edgert.device.gauges.gauges import describe_gauges
from edgert.device.host import HostDriver
from edgert.device.measure import Measured, MemoryTiming, measure_memory
from edgert.device.placement import MemoryPlan, obstacle, plan_memory
from edgert.errors import DeviceError, EdgertError, ModelError
from edgert.exit_codes import ExitCode
from edgert.stats import proportional_set_bytes

# Module, what needs it, how to get it.
_LIBRARIES = (
    ("numpy", "everything", "pip install numpy"),
    ("msgspec", "everything", "pip install msgspec"),
    ("cv2", "cameras and preparation", "pip install 'edgert[host]'; a board has JetPack's own"),
    ("zmq", "ZeroMQ sources and the tap", "pip install pyzmq"),
    ("paho.mqtt", "MQTT", "pip install paho-mqtt"),
    ("google.protobuf", "config.pbtxt", "pip install protobuf"),
    ("prometheus_client", "/metrics", "pip install prometheus-client"),
    ("pynvml", "GPU metrics of discrete GPUs", "pip install nvidia-ml-py"),
    ("gi", "GStreamer where OpenCV has none", "apt install python3-gi gir1.2-gst-plugins-base-1.0"),
)
_ENGINES = (
    ("onnxruntime", "the host engine", "pip install 'edgert[host]'"),
    ("tensorrt", "TensorRT plans", "on a board: JetPack's python3-libnvinfer and system site packages"),
    ("tensorrt_lean", "version-compatible plans", "apt install python3-libnvinfer-lean"),
    ("tensorrt_dispatch", "version-compatible plans", "apt install python3-libnvinfer-dispatch"),
    ("tensorrt_rtx", "TensorRT-RTX plans", "pip install tensorrt-rtx-cu13"),
    ("pycuda", "the GPU", "pip install 'edgert[cuda]'"),
)

_SHM = "/dev/shm"  # noqa: S108 - POSIX shared memory lives there

# Mean of each channel of a (3, 16, 16) picture: GlobalAveragePool, Flatten; opset 13.
_TINY_ONNX = (
    "CAg6hgEKIgoFaW1hZ2USBnBvb2xlZCIRR2xvYmFsQXZlcmFnZVBvb2wKFwoGcG9vbGVkEgRtZWFuIgdGbGF0dGVuEgRtZWFuWiQKBWlt"
    "YWdlEhsKGQgBEhUKBxIFYmF0Y2gKAggDCgIIEAoCCBBiGwoEbWVhbhITChEIARINCgcSBWJhdGNoCgIIA0IECgAQDQ=="
)
_TINY_PIPELINE = """
node = "doctor"
store = "store"
[sources.test]
uri = "replay:noise?width=16&height=16&frames=3"
models = ["mean"]
[sinks.out]
type = "lines"
path = "results.jsonl"
[service]
log_level = "warning"
"""


def examine() -> ExitCode:
    """Print what is here. Something that is missing is said, and is no failure."""
    for title, lines in _sections():
        print(title)
        for line in lines:
            print(f"  {line}")
    return ExitCode.OK


def run_test() -> ExitCode:
    """Send three pictures through capture, a tiny engine and the lines sink; check what comes out."""
    with tempfile.TemporaryDirectory(prefix="edgert-doctor-") as folder:
        try:
            results = _run_tiny(Path(folder))
        except (EdgertError, ImportError) as error:
            print(f"Test failed: {error}")
            return ExitCode.DEVICE
    for line in results:
        print(f"frame {line['seq']}: channel means {line['tensors'][0]['data']}, {line['latency_ms']} ms")
    print("Test passed!")
    return ExitCode.OK


def examine_memory() -> ExitCode:
    """Time each kind of memory on the GPU, on the host where there is none, and print it beside the choice.

    Raises:
        DeviceError: the GPU is there, and failed.
    """
    with ExitStack() as undo:
        driver: Driver = HostDriver()
        try:
            driver = undo.enter_context(_open_gpu())
        except DeviceError as error:
            print(f"no GPU: {error}")
        for line in _timed(driver):
            print(line)
    return ExitCode.OK


def _sections() -> Iterator[tuple[str, Iterator[str]]]:
    yield (
        "edgert",
        iter(
            [
                f"{__version__} in {Path(__file__).parent}",
                f"Python {sys.version.split()[0]}, {sys.executable}",
            ]
        ),
    )
    yield "machine", _machine()
    yield "board", (f"{name}: {value}" for name, value in board_facts().items())
    yield "device", _device()
    yield "libraries", (_module_line(*library) for library in _LIBRARIES)
    yield "OpenCV", _opencv()
    yield "engines", (_module_line(*engine) for engine in _ENGINES)
    yield "programs", (_program_line(name) for name in ("mosquitto", "npm", "trtexec", "systemctl"))


def _machine() -> Iterator[str]:
    host = HostDriver().attributes()
    memory = {
        line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()
    }
    yield f"{platform.system()} {platform.release()} {host['machine']}, {host['cores']} cores"
    yield f"memory {memory['MemTotal'] >> 10} MiB, free {memory['MemAvailable'] >> 10} MiB"
    yield f"this process: PSS {proportional_set_bytes() >> 20} MiB"
    shm = os.statvfs(_SHM)
    yield f"{_SHM}: {shm.f_bavail * shm.f_frsize >> 20} MiB free"
    yield f"gauges: {describe_gauges() or 'none'}"


@contextmanager
def _open_gpu() -> Iterator[Driver]:
    """Open the GPU. Raises DeviceError, saying why there is none."""
    try:
        from edgert.device.cuda import CudaDriver
    except Exception as error:  # a broken library may raise anything, and it is what we report
        raise DeviceError(f"{_first_line(error)}. pip install 'edgert[cuda]'") from error
    driver = CudaDriver()
    driver.open()
    try:
        yield driver
    finally:
        driver.close()


def _device() -> Iterator[str]:
    try:
        with _open_gpu() as driver:
            free, total = driver.memory_info()
            yield _device_name(driver)
            yield f"memory {total >> 20} MiB, free {free >> 20} MiB"
            yield from _plan_lines(plan_memory(driver.attributes()))
    except DeviceError as error:
        yield f"no GPU: {error}"


def _device_name(driver: Driver) -> str:
    facts = driver.attributes()
    capability = facts.get("compute_capability")
    return f"{facts.get('name', driver.name)}" + (f", compute capability {capability}" if capability else "")


def _plan_lines(plan: MemoryPlan) -> Iterator[str]:
    copied = {True: ", copied once", False: ", in place"}
    yield f"slots: {plan.slots.value}{copied[plan.is_staged]}"
    yield f"outputs: {plan.outputs.value}{copied[plan.outputs_are_staged]}"
    yield f"because {plan.reason}"


def _timed(driver: Driver) -> list[str]:
    plan = plan_memory(driver.attributes())
    measured = measure_memory(driver, plan)
    columns = f"{'memory':12} {'host writes':>15} {'device reads':>15} {'a 1080p frame':>15}"
    return [
        _device_name(driver),
        *(f"  {line}" for line in _plan_lines(plan)),
        f"  {columns}",
        *(f"  {_timing_line(timing)}" for timing in measured.timings),
        *(f"  {line}" for line in _refusal_lines(measured.refused)),
        _verdict(driver, plan, measured),
    ]


def _timing_line(timing: MemoryTiming) -> str:
    rates = f"{timing.host_write_gb_s:10.2f} GB/s {timing.device_read_gb_s:10.2f} GB/s"
    return f"{timing.choice:12} {rates} {timing.frame_ms:12.3f} ms{'  chosen' if timing.is_chosen else ''}"


def _refusal_lines(refused: dict[str, str]) -> Iterator[str]:
    for reason in dict.fromkeys(refused.values()):
        choices = ", ".join(choice for choice, of_choice in refused.items() if of_choice == reason)
        yield f"not timed: {choices}: {reason}"


def _verdict(driver: Driver, plan: MemoryPlan, measured: Measured) -> str:
    better = measured.better()
    if better is None:
        return f"The choice, {plan.choice}, is as fast as any other here."
    refusal = obstacle(driver.attributes(), better.choice)
    if refusal:
        return f"{better.choice} is faster here than {plan.choice}, but cannot serve: {refusal}."
    return (
        f"{better.choice} is faster here than the choice, {plan.choice}. To use it, write in the pipeline "
        f'file: [service] memory = "{better.choice}"'
    )


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _module_line(module: str, use: str, remedy: str) -> str:
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything, and it is what we report
        return f"{module:18} no   {use}: {_first_line(error)}. {remedy}"
    return f"{module:18} {_version(imported):12} {use}"


def _version(module: ModuleType) -> str:
    """Return the version by the module itself, which JetPack's have too, else by its package."""
    said = getattr(module, "__version__", None)
    names = importlib.metadata.packages_distributions().get(module.__name__.partition(".")[0], [])
    return str(said) if said else importlib.metadata.version(names[0]) if names else "yes"


def _opencv() -> Iterator[str]:
    try:
        from edgert.capture.video import has_gstreamer
    except ImportError as error:
        yield f"no OpenCV: {error}"
    else:
        yield f"GStreamer: {'yes' if has_gstreamer() else 'no; csi and gst go through gi'}"


def _program_line(name: str) -> str:
    return f"{name:18} {shutil.which(name) or 'no'}"


def _run_tiny(folder: Path) -> list[dict[str, Any]]:
    from edgert.pipeline.file import PipelineFile
    from edgert.service import Service

    version = folder / "store" / "mean" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(base64.b64decode(_TINY_ONNX))
    (version.parent / "edgert.toml").write_text('[prepare]\nfit = "stretch"\n[decode]\nkind = "tensors"\n')
    (folder / "doctor.toml").write_text(_TINY_PIPELINE)
    file = PipelineFile.load(folder / "doctor.toml")
    file.check()
    Service(file).run()
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    _check_means(results)
    return results


def _check_means(results: list[dict[str, Any]]) -> None:
    from edgert.capture.replay import make_noise

    expected = [picture.mean(axis=(0, 1))[::-1] for picture in make_noise(16, 16, count=3, seed=0)]
    means = [result["tensors"][0]["data"] for result in results]
    if len(means) != len(expected) or not np.allclose(means, expected, atol=1e-3):
        raise ModelError(f"the line returned {means}, expected {np.round(expected, 3).tolist()}")
