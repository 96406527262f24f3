"""A device for each test, and plans built for it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from edgert.device.opened import open_device
from edgert.execute.options import EngineOptions


@pytest.fixture(scope="session", autouse=True)
def _kept_context():
    """Keep the device's context between tests: to make it takes most of a second."""
    from edgert.device.cuda import CudaDriver
    from edgert.errors import EdgertError

    driver = CudaDriver()
    try:
        driver.open()
    except EdgertError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    yield
    driver.close()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def device():
    opened = open_device("cuda")
    yield opened
    opened.close()
    assert opened.driver.budget.used_bytes == 0, opened.driver.budget.holders()


@pytest.fixture
def load(device):
    """Return a function that loads a plan; engines are closed at the end, after their lanes."""
    from edgert.execute.tensorrt_engine import load_tensorrt_engine

    engines, lanes = [], []

    def loaded(plan, **options):
        engine = load_tensorrt_engine(plan, "tensorrt_rtx", EngineOptions(**options), device, "model test")
        engines.append(engine)
        opened = engine.open_lane

        def open_lane(*arguments, **named):
            lanes.append(opened(*arguments, **named))
            return lanes[-1]

        engine.open_lane = open_lane
        return engine

    with device.driver.current():
        yield loaded
        for lane in lanes:
            lane.close()
        for engine in engines:
            engine.close()


@pytest.fixture
def pinned(device):
    """Return a function that puts an array into pinned memory."""
    from edgert.device.memory import MemoryKind

    buffers = []

    def put(array):
        buffer = device.driver.allocate(array.nbytes, MemoryKind.PINNED)
        buffers.append(buffer)
        buffer.array_u8[:] = np.ascontiguousarray(array).view(np.uint8).ravel()
        return buffer

    yield put
    for buffer in buffers:
        buffer.free()


def filler(name, buffer, shape):
    """Return a fill that copies a pinned buffer into an input."""

    def fill(buffers):
        tensor = buffers.inputs({name: shape})[name]
        buffers.stream.copy(tensor.address, buffer.address, buffer.size_bytes)

    return fill


def finish(lane, count=1):
    """Poll until `count` batches are back."""
    done = []
    while len(done) < count:
        done += lane.poll()
    return done


def run(lane, fill):
    """Run one batch; return copies of its outputs."""
    lane.submit(lane.acquire(), fill, None)
    [completed] = finish(lane)
    if completed.error:
        lane.release(completed.buffers)
        raise completed.error
    outputs = {name: np.copy(array) for name, array in completed.buffers.outputs().items()}
    lane.release(completed.buffers)
    return outputs


class Gate:
    """Holds a stream until it is opened: the device waits for a word in mapped memory to become 1."""

    def __init__(self, device, stream):
        from edgert.device.memory import MemoryKind

        self._word = device.driver.allocate(4, MemoryKind.MAPPED)
        self._word.array_u8[:] = 0
        library = ctypes.CDLL("libcuda.so.1")
        status = library.cuStreamWaitValue32_v2(
            ctypes.c_void_p(stream.handle), ctypes.c_uint64(self._word.address), ctypes.c_uint32(1), 0
        )
        assert status == 0, f"cuStreamWaitValue32 returned {status}"

    def open(self):
        """Let the stream go on."""
        self._word.array_u8[0] = 1

    def close(self):
        """Free the word; the stream has passed."""
        self._word.free()
