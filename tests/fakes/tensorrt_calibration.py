"""Run in a process of its own: calls edgert's calibrators as TensorRT's builder does, by real bindings.

TensorRT calls a C++ object by its table of virtual functions; the bindings made that object, and pass the
calls on to Python. Prints what came back, as JSON.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx

from edgert.build.progress import BuildProgress
from edgert.calibrate.calibrator_route import CalibratorRoute
from edgert.calibrate.calibrators import CalibratorOptions, open_calibration
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.device.host import HostDriver
from edgert.device.opened import open_device
from edgert.execute.tensorrt_bindings import load_bindings
from edgert.execute.tensorrt_calibrator import CALIBRATORS
from edgert.models.tensor_spec import TensorSpec
from edgert.prepare.options import PrepareOptions

# IVersionedInterface has four slots (language, interface, two destructors), then come IInt8Calibrator's.
BATCH_SIZE, BATCH, READ, WRITE, ALGORITHM, QUANTILE, CUTOFF, READ_HISTOGRAM, WRITE_HISTOGRAM = range(4, 13)
VALUE_OFFSET = object.__basicsize__  # where pybind11 keeps the pointer to the C++ object
CACHE = b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"
INPUTS = (TensorSpec("x", "float32", (2, 3)), TensorSpec("y", "int32", (2,)))

size_t, pointer = ctypes.c_size_t, ctypes.c_void_p


class Called:
    """A calibrator, as the builder sees it."""

    def __init__(self, calibrator):
        self._object = pointer.from_address(id(calibrator) + VALUE_OFFSET).value
        self._functions = ctypes.POINTER(pointer).from_address(self._object)

    def _call(self, slot, result, *arguments):
        kinds = [pointer if isinstance(each, int) else type(each) for each in arguments]
        return ctypes.CFUNCTYPE(result, pointer, *kinds)(self._functions[slot])(self._object, *arguments)

    def batch_size(self):
        return self._call(BATCH_SIZE, ctypes.c_int32)

    def algorithm(self):
        return self._call(ALGORITHM, ctypes.c_int32)

    def batch(self, *names):
        addresses = (pointer * len(names))()
        texts = (ctypes.c_char_p * len(names))(*(name.encode() for name in names))
        given = self._call(
            BATCH,
            ctypes.c_bool,
            ctypes.addressof(addresses),
            ctypes.addressof(texts),
            ctypes.c_int32(len(names)),
        )
        return list(addresses) if given else None

    def read(self, slot=READ):
        length = size_t(0)
        found = self._call(slot, pointer, ctypes.addressof(length))
        return ctypes.string_at(found, length.value).decode() if found else None

    def write(self, content, slot=WRITE):
        memory = ctypes.create_string_buffer(content, len(content))
        self._call(slot, None, ctypes.addressof(memory), size_t(len(content)))

    def cutoffs(self):
        return [self._call(slot, ctypes.c_double) for slot in (QUANTILE, CUTOFF)]


def batch_of(value, count=2):
    return {"x": np.full((count, 3), value, np.float32), "y": np.arange(count, dtype=np.int32)}


def values_at(addresses):
    x, y = addresses
    return [
        np.ctypeslib.as_array((ctypes.c_float * 6).from_address(x)).tolist(),
        np.ctypeslib.as_array((ctypes.c_int32 * 2).from_address(y)).tolist(),
    ]


def calibrate(bindings, algorithm, folder):
    """Do what a build does that knows no cache."""
    options = CalibratorOptions(algorithm=algorithm, cache=folder / f"{algorithm}.cache")
    batches = [batch_of(0.5), batch_of(1.5, count=1)]
    calibration = open_calibration(bindings, INPUTS, batches, HostDriver(), options)
    called = Called(calibration.calibrator)
    seen = {
        "batch_size": called.batch_size(),
        "algorithm": called.algorithm(),
        "read": called.read(),
        "values": [values_at(called.batch("x", "y")), values_at(called.batch("x", "y"))],
        "after": called.batch("x", "y"),
    }
    called.write(CACHE)
    if algorithm == "LegacyCalibration":
        called.write(b"histogram", WRITE_HISTOGRAM)
        seen |= {"cutoffs": called.cutoffs(), "histogram": called.read(READ_HISTOGRAM)}
    calibration.raise_failure()
    seen |= {"written": options.cache.read_text(), "batches": calibration.batches}
    calibration.close()
    return seen


def reuse(bindings, folder):
    options = CalibratorOptions(cache=folder / "EntropyCalibration2.cache", reuses_cache=True)
    calibration = open_calibration(bindings, INPUTS, [], HostDriver(), options)
    read = Called(calibration.calibrator).read()
    calibration.close()
    return read


def fail(bindings, folder):
    """Say what is left of an exception in a callback."""

    def frames():
        yield batch_of(0.5)
        raise KeyboardInterrupt("Ctrl-C")

    stopped = []
    options = CalibratorOptions(cache=folder / "failed.cache")
    calibration = open_calibration(
        bindings, INPUTS, frames(), HostDriver(), options, on_failure=lambda: stopped.append(True)
    )
    called = Called(calibration.calibrator)
    given = [called.batch("x", "y") is not None for _ in range(3)]
    called.write(CACHE)
    try:
        calibration.raise_failure()
    except KeyboardInterrupt as interrupt:
        raised = str(interrupt)
    calibration.close()
    return {"given": given, "raised": raised, "stopped": len(stopped), "written": options.cache.exists()}


def take_route(bindings, folder):
    """Do what two builds of one recipe do; return what each was given, and what became of the first's."""
    tensors = [np.full(3, value, np.float32) for value in range(3)]
    setting = SimpleNamespace(
        recipe=SimpleNamespace(work=folder),
        plan=SimpleNamespace(settings=SimpleNamespace(prepare=PrepareOptions())),
        model=SimpleNamespace(input_name="x", proto=onnx.ModelProto()),
        frames=lambda samples: (SimpleNamespace(tensor=tensors[int(each.file)]) for each in samples),
    )
    samples = [SampleFrame(str(number), str(number), "", 0) for number in range(3)]
    route = CalibratorRoute(setting, "MinMaxCalibration", samples, lambda: open_device("host"))
    given, progress = [], BuildProgress("m", io.StringIO())
    for _ in range(2):
        with route.open(bindings, INPUTS[:1], progress) as calibrator:
            called = Called(calibrator)
            cache, values = called.read(), []
            while cache is None and (addresses := called.batch("x")) is not None:
                values.append(np.ctypeslib.as_array((ctypes.c_float * 6).from_address(addresses[0])).tolist())
            if cache is None:
                called.write(CACHE.replace(b"EntropyCalibration2", b"MinMaxCalibration"))
            calibrator.raise_failure()
        given.append(cache or values)
    return {"given": given, "note": route.note}


def main():
    bindings = load_bindings("tensorrt", needs_device=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen = {
            "algorithms": {each: calibrate(bindings, each, folder) for each in CALIBRATORS},
            "reused": reuse(bindings, folder),
            "failed": fail(bindings, folder),
            "route": take_route(bindings, folder),
        }
    json.dump(seen, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # the stub's objects cannot be destroyed


if __name__ == "__main__":
    main()
