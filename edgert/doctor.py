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
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgert import __version__
from edgert.device.board import board_facts
from edgert.device.host import HostDriver
from edgert.errors import EdgertError, ModelError
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


def _module_line(module: str, use: str, remedy: str) -> str:
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything, and it is what we report
        reason = str(error).split("\n", maxsplit=1)[0]
        return f"{module:18} no   {use}: {reason}. {remedy}"
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
