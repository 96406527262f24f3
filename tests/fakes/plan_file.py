"""Engine files of TensorRT that have a header and nothing behind it, and a runtime that loads them."""

from __future__ import annotations

import datetime
import struct
import sys
from types import ModuleType

from edgert.execute.engine import EngineDetails, EngineInfo, LayerInfo, ProfileRange
from edgert.models.manifest import Manifest, SourceModel, sha256_of, write_manifest
from edgert.models.tensor_spec import TensorSpec

BUILT = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
INFO = EngineInfo(
    "tensorrt",
    (TensorSpec("image", "float32", (-1, 3, 8, 8)),),
    (TensorSpec("mean", "float16", (-1, 3)),),
    batches=True,
)
DETAILS = EngineDetails(
    weights_bytes=12_582_912,
    scratch_bytes=2048,
    profiles=({"image": ProfileRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))},),
    layers=(
        LayerInfo("conv1 + relu1", "CaskConvolution", "sm80_xmma_fprop", "Half"),
        LayerInfo("pool1", "Reduce"),
    ),
    auxiliary_streams=1,
    is_refittable=True,
)


def write_plan(file, *, tag=b"ftrt", version=(10, 3, 0, 30), payload=b"weights"):
    """Write an engine file; returns it."""
    size_bytes = struct.calcsize("<4sI8xQ4B") + len(payload)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<4sI8xQ4B", tag, 0, size_bytes, *version) + payload)
    return file


def add_manifest(file, **changes):
    """Write the manifest of an engine file beside it."""
    values = {
        "plan_sha256": sha256_of(file),
        "plan_bytes": file.stat().st_size,
        "runtime": "tensorrt",
        "runtime_version": "10.3.0.30",
        "compute_capabilities": ("8.7",),
        "built_utc": BUILT,
        "source": SourceModel("model.onnx", "0" * 64),
        "precision": "fp16",
    }
    return write_manifest(file, Manifest(**values | changes))


class FakeEngine:
    """Says what it is told; opens no lane."""

    def __init__(self, info=INFO, details=DETAILS):
        self.info = info
        self.is_driven = True
        self.is_closed = False
        self._details = details

    def details(self):
        return self._details

    def close(self):
        self.is_closed = True


class FakeRuntime:
    """Stands for `edgert.execute.tensorrt_engine`; `failure` is raised by loading."""

    def __init__(self, engine=None, failure=None):
        self.engine = engine or FakeEngine()
        self.failure = failure
        self.asked = []  # (file, runtime, device's name)

    def put(self, monkeypatch):
        module = ModuleType("edgert.execute.tensorrt_engine")
        module.load_tensorrt_engine = self._load
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return self

    def _load(self, file, runtime, options, device, owner):
        self.asked.append((file, runtime, device.driver.attributes()["name"]))
        if self.failure:
            raise self.failure
        return self.engine
