"""An InferenceCore with a few models in Python: the whole protocol, and no engine behind it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import msgspec
import numpy as np

from edgert.errors import CancelledError, ModelError, RequestError, UnavailableError, UnknownModelError
from edgert.frames.request import InferResponse
from edgert.models.model_config import InstanceGroup, ModelConfig, TensorConfig
from edgert.serve.core import (
    BatchStatistics,
    Duration,
    IndexEntry,
    ModelMetadata,
    ModelStatistics,
    TensorMetadata,
)
from edgert.serve.datatypes import DTYPE_OF_DATATYPE, array_dtype
from edgert.stats import LiveCount

MAX_BATCH = 8
TIMEOUT_S = 10.0  # real seconds before a test that waits for the core gives up


class FakeModel(msgspec.Struct, frozen=True):
    """A model. `run` maps a request and the core to its answers' outputs, the last of them final."""

    name: str
    inputs: dict[str, tuple[str, tuple[int, ...]]]  # datatype, shape without the batch axis
    outputs: dict[str, tuple[str, tuple[int, ...]]]
    run: Callable
    versions: tuple[int, ...] = (1,)
    is_batched: bool = True
    is_decoupled: bool = False

    def metadata(self):
        """Return what a client sees."""
        return ModelMetadata(
            self.name,
            tuple(str(version) for version in self.versions),
            "fake",
            self._tensors(self.inputs),
            self._tensors(self.outputs),
        )

    def config(self):
        """Return the configuration."""
        return ModelConfig(
            name=self.name,
            platform="fake",
            max_batch_size=MAX_BATCH if self.is_batched else 0,
            is_decoupled=self.is_decoupled,
            inputs=self._configs(self.inputs),
            outputs=self._configs(self.outputs),
            instance_groups=(InstanceGroup(name=f"{self.name}_0", kind="KIND_CPU"),),
        )

    def _tensors(self, specs):
        batch = (-1,) * self.is_batched
        return tuple(
            TensorMetadata(name, datatype, batch + shape) for name, (datatype, shape) in specs.items()
        )

    def _configs(self, specs):
        return tuple(
            TensorConfig(name=name, dtype=DTYPE_OF_DATATYPE[datatype], dims=shape)
            for name, (datatype, shape) in specs.items()
        )


class FakeCore:
    """Answers on one thread of its own, then spoils the arrays that it answered with, as a lane may.

    `requests` has all that it began. Requests to `slow` are `held` until the test calls `finish`.
    """

    live: ClassVar[LiveCount] = LiveCount("fake core")

    def __init__(self):
        self.models = {model.name: model for model in _models()}
        self.loaded = set(self.models)
        self.requests = []
        self.changes = []  # (verb, arguments) of load and unload
        self.load_failure = None  # load and unload raise it
        self.may_load = threading.Event()  # load waits for it
        self.may_load.set()
        self.ready = True
        self.sums = {}  # by sequence
        self.statistics_of = {name: ModelStatistics(name, "1") for name in self.models}
        self.held = queue.SimpleQueue()
        self._work = queue.SimpleQueue()
        self._faults = []
        self._thread = threading.Thread(target=self._run, name="fake core", daemon=True)

    def __enter__(self):
        self.live.opened()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._work.put(None)
        self._thread.join(TIMEOUT_S)
        self.requests.clear()  # their inputs may stand in shared memory
        self.live.closed()
        assert not self._faults, f"A responder raised {self._faults}."

    def finish(self):
        """Answer the oldest request to `slow`; wait for one if there is none."""
        self._work.put((self.held.get(timeout=TIMEOUT_S), self.models["identity"].run))

    def wait_until_idle(self):
        """Wait until what has begun, but for what is held, is answered and forgotten."""
        idle = threading.Event()
        self._work.put(idle)
        assert idle.wait(TIMEOUT_S), "The core did not come to an end."

    def is_ready(self):
        return self.ready

    def is_model_ready(self, model, version=0):
        return model in self.loaded and version in (0, *self.models[model].versions)

    def model_metadata(self, model, version=0):
        return self._model(model, version).metadata()

    def model_config(self, model, version=0):
        return self._model(model, version).config()

    def labels(self, model, version, output):
        self._model(model, version)
        return ("cat", "dog", "bird") if output == "SCORES" else ()

    def statistics(self, model="", version=0):
        if model:
            return [self.statistics_of[self._model(model, version).name]]
        return [self.statistics_of[name] for name in sorted(self.loaded)]

    def infer(self, request):
        model = self._model(request.model, request.version)
        _check(model, request)
        if model.name == "refusing":
            raise UnavailableError("Exceeds maximum queue size")
        self.requests.append(request)
        if model.name == "slow":
            self.held.put(request)
        else:
            self._work.put((request, model.run))

    def index(self, *, only_ready=False):
        entries = [IndexEntry(name, "1", "READY") for name in sorted(self.loaded)]
        if not only_ready:
            absent = sorted(set(self.models) - self.loaded)
            entries += [IndexEntry(name, "1", "UNAVAILABLE", "unloaded") for name in absent]
        return entries

    def load(self, model, config_json=None, files=None):
        assert self.may_load.wait(TIMEOUT_S), "The test never let the load go on."
        self._change("load", model, config_json, files)
        self.loaded.add(model)

    def unload(self, model, *, with_dependents=False):
        self._change("unload", model, with_dependents)
        self.loaded.discard(model)

    def _change(self, verb, model, *arguments):
        self.changes.append((verb, model, *arguments))
        if self.load_failure:
            raise self.load_failure
        if model not in self.models:
            raise UnknownModelError(f"failed to {verb} '{model}', no such model in the store")

    def _model(self, name, version):
        if name not in self.loaded:
            raise UnknownModelError(f"Request for unknown model: '{name}' is not found")
        model = self.models[name]
        if version not in (0, *model.versions):
            raise UnknownModelError(f"Request for unknown model: '{name}' version {version} is not found")
        return model

    def _run(self):
        while (work := self._work.get()) is not None:
            if isinstance(work, threading.Event):
                work.set()
                continue
            try:
                self._answer(*work)
            except Exception as error:  # noqa: BLE001 - the test that closes the core shows it
                self._faults.append(error)
            del work  # its request

    def _answer(self, request, run):
        version = request.version or max(self.models[request.model].versions)
        if request.is_cancelled:
            error = CancelledError("The request was cancelled.")
            request.responder.respond(InferResponse(request.model, version, request.id, error=error))
            return
        began_ns = time.monotonic_ns()
        for outputs, is_final in run(self, request):
            error = outputs.pop("error", None)
            wanted = request.outputs or tuple(outputs)
            kept = {name: outputs[name] for name in wanted if name in outputs}
            if is_final:
                self._count(request, time.monotonic_ns() - began_ns)
            request.responder.respond(
                InferResponse(request.model, version, request.id, kept, error=error, is_final=is_final)
            )
            _spoil(kept)

    def _count(self, request, took_ns):
        statistics = self.statistics_of[request.model]
        size = len(next(iter(request.inputs.values())))
        statistics.inference_count += size
        statistics.execution_count += 1
        statistics.last_inference = time.time_ns() // 1_000_000
        statistics.inference_stats.success.add(took_ns)
        statistics.inference_stats.compute_infer.add(took_ns)
        statistics.batch_stats = [BatchStatistics(size, compute_infer=Duration(1, took_ns))]


def _check(model, request):
    if set(request.inputs) != set(model.inputs):
        raise RequestError(
            f"expected {len(model.inputs)} inputs but got {len(request.inputs)} for model '{model.name}'"
        )
    for name, (datatype, shape) in model.inputs.items():
        array = request.inputs[name]
        if array.dtype != array_dtype(datatype):
            raise RequestError(f"inference input '{name}' data-type is {array.dtype}, expected {datatype}")
        axes = array.shape[1:] if model.is_batched else array.shape
        if len(axes) != len(shape) or any(
            want not in (-1, is_) for want, is_ in zip(shape, axes, strict=True)
        ):
            raise RequestError(f"unexpected shape for input '{name}': {list(array.shape)}")
    unknown = [name for name in request.outputs if name not in model.outputs]
    if unknown:
        raise RequestError(f"unexpected inference output '{unknown[0]}' for model '{model.name}'")


def _spoil(outputs):
    for array in outputs.values():
        array.fill(b"spoiled" if array.dtype == object else 0)


def _identity(core, request) -> Iterator:
    yield {name.replace("IN", "OUT"): array.copy() for name, array in request.inputs.items()}, True


def _add(core, request) -> Iterator:
    a, b = request.inputs["INPUT0"], request.inputs["INPUT1"]
    yield {"OUTPUT0": a + b, "OUTPUT1": a - b}, True


def _failing(core, request) -> Iterator:
    yield {"error": ModelError("the engine could not run")}, True


def _repeat(core, request) -> Iterator:
    for index in range(int(request.inputs["IN"][0])):
        yield {"OUT": np.array([index], np.int32)}, False
    yield {}, True


def _classify(core, request) -> Iterator:
    yield {"SCORES": request.inputs["IN"].copy()}, True


def _accumulate(core, request) -> Iterator:
    step = request.sequence
    if step is None:
        yield {"error": RequestError("inference request to model 'accumulate' must specify a sequence")}, True
        return
    before = 0 if step.is_start else core.sums.get(step.id, 0)
    total = core.sums[step.id] = before + int(request.inputs["IN"].sum())
    if step.is_end:
        del core.sums[step.id]
    yield {"OUT": np.array([[total]], np.int32)}, True


def _models() -> Iterator[FakeModel]:
    fp32 = {"INPUT0": ("FP32", (16,))}, {"OUTPUT0": ("FP32", (16,))}
    yield FakeModel("identity", *fp32, _identity, versions=(1, 3))
    yield FakeModel("slow", *fp32, _identity)
    yield FakeModel("failing", *fp32, _failing)
    yield FakeModel("refusing", *fp32, _identity)
    for datatype in DTYPE_OF_DATATYPE:
        name = f"identity_{datatype.lower()}"
        specs = {"INPUT0": (datatype, (-1,))}, {"OUTPUT0": (datatype, (-1,))}
        yield FakeModel(name, *specs, _identity, is_batched=False)
    pair = {"INPUT0": ("INT32", (16,)), "INPUT1": ("INT32", (16,))}
    sums = {"OUTPUT0": ("INT32", (16,)), "OUTPUT1": ("INT32", (16,))}
    yield FakeModel("add", pair, sums, _add)
    repeat = {"IN": ("INT32", (1,))}, {"OUT": ("INT32", (1,))}, _repeat
    yield FakeModel("repeat", *repeat, is_batched=False, is_decoupled=True)
    yield FakeModel("undeclared", *repeat, is_batched=False)
    yield FakeModel("classify", {"IN": ("FP32", (4,))}, {"SCORES": ("FP32", (4,))}, _classify)
    yield FakeModel("accumulate", {"IN": ("INT32", (1,))}, {"OUT": ("INT32", (1,))}, _accumulate)
