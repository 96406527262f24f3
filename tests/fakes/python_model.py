"""Models in Python for tests: their folders, and an engine whose lanes are run batch by batch."""

from __future__ import annotations

import textwrap

import numpy as np

from edgert.config import Document
from edgert.device.host import HostDriver
from edgert.execute.python_buffers import Asked
from edgert.execute.python_engine import load_python_engine
from edgert.frames.request import InferRequest
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.models.store import ModelEntry, ModelVersion
from tests.fakes.lane import TIMEOUT_S, Bell

DOUBLE = """
class Model:
    def execute(self, inputs):
        return {"y": inputs["x"] * 2}
"""
X = TensorConfig(name="x", dtype="float32", dims=(2,))
Y = TensorConfig(name="y", dtype="float32", dims=(2,))


class Ignored:
    """A responder for requests whose answers are read from the buffer set."""

    def respond(self, response):
        raise AssertionError("nobody answers here")


def request(arrays, **fields):
    """Return what a lane takes: one request."""
    return Asked(arrays, InferRequest(model="m", inputs=arrays, responder=Ignored(), **fields))


def write_model(folder, source, name="m", version=1, **helpers):
    """Write `<name>/<version>/model.py` and helpers beside it; return the version's folder."""
    place = folder / name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    for file, text in {"model": source, **helpers}.items():
        (place / f"{file}.py").write_text(textwrap.dedent(text))
    return place


def load_model(place, grace_s=TIMEOUT_S, **config):
    """Load the engine of a version's folder."""
    config = {"max_batch_size": 8, "inputs": (X,), "outputs": (Y,), **config}
    folder = place.parent
    entry = ModelEntry(folder.name, folder, ModelConfig(**config), Document(folder / "edgert.toml", {}))
    version = ModelVersion(folder.name, int(place.name), place)
    return load_python_engine(place / "model.py", entry, version, HostDriver().allocate, grace_s)


class Runner:
    """An engine with one lane."""

    def __init__(self, place, **options):
        self.engine = load_model(place, **options)
        self.bell = Bell()
        self._lane = None

    @property
    def lane(self):
        """The lane, opened when it is first asked for."""
        self._lane = self._lane or self.engine.open_lane(8, self.bell)
        return self._lane

    def complete(self, fill):
        """Run one batch; return it after its buffers were released."""
        lane = self.lane
        buffers = lane.acquire()
        lane.submit(buffers, fill, None)
        completed = self.bell.next_from(lane)
        lane.release(buffers)
        return completed

    def run(self, **arrays):
        """Return copies of the outputs of one batch, whose inputs are written to the lane's memory."""

        def fill(buffers):
            for name, array in buffers.inputs({name: array.shape for name, array in arrays.items()}).items():
                array[:] = arrays[name]

        return {name: array.copy() for name, array in self._succeed(fill).outputs().items()}

    def ask(self, *asked):
        """Return the outputs of a batch of requests, or their answers one by one."""
        buffers = self._succeed(lambda buffers: buffers.take(asked))
        return buffers.outputs() if buffers.answers is None else buffers.answers

    def parts(self, on_part=None, **arrays):
        """Return the parts of a decoupled model."""
        found = []

        def fill(buffers):
            buffers.take([request(arrays)])
            buffers.on_part = on_part or (lambda part: found.append(dict(part)))

        assert self._succeed(fill).outputs() == {}
        return found

    def close(self):
        """Close lane and engine."""
        if self._lane:
            self._lane.close()
        self.engine.close()

    def _succeed(self, fill):
        completed = self.complete(fill)
        if completed.error:
            raise completed.error
        return completed.buffers


def rows(*values):
    """Return a batch of pairs of the same number."""
    return np.repeat(np.array(values, np.float32)[:, None], 2, axis=1)
