"""What every test gets: it may leave nothing behind, and it may build tiny ONNX models."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgert.stats import LiveCount

THREAD_GRACE_S = 2.0  # for a thread that was told to end and has not quite done so

_strays: list[threading.Thread] = []  # left by tests that have failed for it


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves a resource, a thread or shared memory open."""
    resources, threads, shared = LiveCount.snapshot(), set(threading.enumerate()), _shared_memory()
    yield
    if any(thread.is_alive() for thread in _strays):
        return  # they go on opening and closing things, which would be blamed on this test
    problems = [
        *_threads_since(threads),
        *_resource_changes(resources),
        *(f"shared memory {path} is still open" for path in _shared_memory_since(shared)),
    ]
    if problems:
        pytest.fail("The test left something behind: " + "; ".join(problems), pytrace=False)


@pytest.fixture
def make_onnx(tmp_path):
    """Return a function that saves a tiny ONNX model.

    Nodes are (operator, inputs, outputs), tensors {name: (dtype, shape)}; `object` is text.
    """
    onnx = pytest.importorskip("onnx", reason="needs the onnx package: pip install 'edgert[demo]'")

    def tensor(name, dtype, shape):
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    def tensors(specs):
        return [tensor(name, *spec) for name, spec in specs.items()]

    def make(nodes, inputs, outputs, *, name="tiny", opset=17, ir_version=8):
        steps = [onnx.helper.make_node(op, sources, targets) for op, sources, targets in nodes]
        graph = onnx.helper.make_graph(steps, name, tensors(inputs), tensors(outputs))
        opsets = [onnx.helper.make_opsetid("", opset)]
        file = tmp_path / name / "1" / "model.onnx"
        file.parent.mkdir(parents=True)
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), file)
        return file

    return make


def pytest_collection_finish():
    _leave_what_stands_to_itself()


@pytest.fixture(scope="module")
def frozen_again():
    """For tests of what ends with `gc.unfreeze`."""
    yield
    _leave_what_stands_to_itself()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and (missing := _missing_for_gpu()):
        pytest.skip(f"needs an NVIDIA GPU: {missing}")


@cache
def _missing_for_gpu():
    """Say what keeps GPU tests from running; None if nothing does."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "libcuda.so.1 (the driver) is not installed"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the driver finds {count.value} devices (CUDA status {status})"
    return None


def _leave_what_stands_to_itself():
    """Keep thousands of collected tests out of each later collection of garbage: 0.2 s with them."""
    gc.collect()
    gc.freeze()


def _resource_changes(before):
    after = LiveCount.snapshot()
    names = sorted({*before, *after})
    return [
        f"{name}: {after.get(name, 0) - before.get(name, 0):+d}"
        for name in names
        if after.get(name, 0) != before.get(name, 0)
    ]


def _threads_since(before):
    deadline = time.monotonic() + THREAD_GRACE_S
    fresh = [thread for thread in threading.enumerate() if thread not in before]
    for thread in fresh:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread for thread in fresh if thread.is_alive()]
    _strays.extend(left)
    return [f"thread {thread.name!r} still runs" for thread in left]


def _shared_memory_since(before):
    left = _shared_memory() - before
    if left:  # what only waits for the collector is no leak
        gc.collect()
        left = _shared_memory() - before
    return sorted(left)


def _shared_memory():
    """Return the files of /dev/shm that this process has mapped or open."""
    mapped = (line[line.index("/dev/shm/") :] for line in _maps() if "/dev/shm/" in line)
    return {*mapped, *(path for path in _open_files() if path.startswith("/dev/shm/"))}


def _maps():
    return Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()


def _open_files():
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield str(link.readlink())
        except OSError:  # the descriptor that lists the folder
            continue
