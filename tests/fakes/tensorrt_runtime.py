"""Stands in for a TensorRT module that loads and runs, on memory of the host: outputs are the first input.

As in the bindings, a context keeps its engine alive, this its runtime, and this its allocator. What is freed,
and whether the device was current then, is noted in `freed`.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from math import prod
from types import SimpleNamespace

import msgspec
import numpy as np

from edgert.execute import tensorrt_engine, tensorrt_plugins
from edgert.execute.tensorrt_bindings import Bindings, differences_of

INPUT, OUTPUT = "input", "output"
USER_MANAGED = "user managed"
EAGER = "eager"
ERROR = 1


class FakePlan:
    """What the engine file holds: tensors (name, kind, type, shape), profiles {input: (min, opt, max)}."""

    def __init__(self, *tensors, profiles=None, weights_bytes=4096, scratch_bytes=100, layers=None):
        self.tensors = {
            name: SimpleNamespace(kind=kind, dtype=dtype, shape=shape)
            for name, kind, dtype, shape in tensors
            or (("x", INPUT, "float32", (-1, 4)), ("y", OUTPUT, "float32", (-1, 4)))
        }
        self.profiles = ({"x": ((1, 4), (4, 4), (8, 4))},) if profiles is None else profiles
        self.weights_bytes = weights_bytes
        self.scratch_bytes = scratch_bytes  # for each picture of a batch
        self.layers = layers
        self.shape_tensors = ()


class FakeTensorRT:
    """The module. What it refuses is in `refuses`: load, context, profile, shape, address or run."""

    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=USER_MANAGED, STATIC="static")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER=EAGER)
    TensorIOMode = SimpleNamespace(INPUT=INPUT, OUTPUT=OUTPUT)
    LayerInformationFormat = SimpleNamespace(JSON="json")
    IPluginRegistry = SimpleNamespace(load_library=None)

    class ILogger:
        def log(self, severity, text):
            raise NotImplementedError

    class IProfiler:
        def report_layer_time(self, layer_name, ms):
            raise NotImplementedError

    class IGpuAsyncAllocator:
        allocate_async = deallocate_async = reallocate = None

    def __init__(self, plan=None, *, runtime="tensorrt", version=(10, 3, 0, 30), is_current=lambda: True):
        self.plan = plan or FakePlan()
        self.runtime, self.version = runtime, version
        self.is_current = is_current
        self.refuses = {}  # what, to what is said of it
        self.freed = []  # (what, whether the device was current)
        self.runtimes = weakref.WeakSet()
        self.contexts = weakref.WeakSet()
        self.configs = weakref.WeakSet()
        self.caches = []
        self.bound = 0  # how often bindings were asked for
        self.Runtime = type("Runtime", (FakeRuntime,), {"trt": self})
        self.ICudaEngine, self.IExecutionContext = FakeEngine, FakeContext
        self.IRuntimeConfig, self.IRuntimeCache = FakeConfig, FakeCache
        self.EngineInspector = FakeInspector

    def bindings(self):
        own = msgspec.structs.asdict(differences_of(self.runtime, self.version))
        return Bindings(module=self, runtime=self.runtime, version=self.version, **own)

    def put(self, monkeypatch):
        """Make it what `load_tensorrt_engine` finds, in a process that has registered no plugins."""
        monkeypatch.setattr(tensorrt_engine, "load_bindings", self._load_bindings)
        monkeypatch.setattr(tensorrt_plugins, "_loaded", {})
        return self

    def _load_bindings(self, runtime):
        assert runtime == self.runtime
        self.bound += 1
        return self.bindings()

    def refused(self, what, logger):
        """Say whether something is refused, after telling the logger why."""
        if what in self.refuses:
            logger.log(ERROR, self.refuses[what])
        return what in self.refuses

    def note_freed(self, what):
        self.freed.append((what, self.is_current()))

    def init_libnvinfer_plugins(self, logger, namespace):
        return True

    def get_plugin_registry(self):
        raise AssertionError("No plugin library is named.")

    @staticmethod
    def nptype(dtype):
        if dtype == "bfloat16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(dtype).type


class FakeRuntime:
    """`Runtime`."""

    trt: FakeTensorRT
    engine_host_code_allowed = False
    gpu_allocator = None

    def __init__(self, logger):
        self.logger = logger
        self.trt.runtimes.add(self)

    def deserialize_cuda_engine(self, view):
        assert self.trt.is_current()
        self.content = bytes(view)
        if self.trt.refused("load", self.logger):
            return None
        weights = self.allocate(self.trt.plan.weights_bytes)
        if not weights:
            self.logger.log(ERROR, "[x.cpp::f::1] Error Code 2: OutOfMemory (Requested amount of GPU memory)")
            return None
        return FakeEngine(self, weights)

    def allocate(self, size_bytes):
        """Ask as TensorRT does: size and alignment, then stream and flags in the order of the release."""
        order = self.trt.bindings().allocate_order
        asked = {"size": size_bytes, "alignment": 256, "stream": 0x5000, "flags": 1}
        return self.gpu_allocator.allocate_async(*(asked[name] for name in order))

    def __del__(self):
        self.trt.note_freed("runtime")


class FakeEngine:
    """`ICudaEngine`."""

    num_aux_streams = 2
    refittable = True

    def __init__(self, runtime, weights):
        self.runtime, self.trt, self.plan = runtime, runtime.trt, runtime.trt.plan
        self._weights = weights

    num_io_tensors = property(lambda self: len(self.plan.tensors))
    num_optimization_profiles = property(lambda self: len(self.plan.profiles))
    device_memory_size_v2 = property(lambda self: 64 * self.plan.scratch_bytes)

    def get_device_memory_size_for_profile_v2(self, profile):
        return self.device_memory_size_v2

    def get_tensor_name(self, index):
        return list(self.plan.tensors)[index]

    def get_tensor_mode(self, name):
        return self.plan.tensors[name].kind

    def get_tensor_dtype(self, name):
        return self.plan.tensors[name].dtype

    def get_tensor_shape(self, name):
        return list(self.plan.tensors[name].shape)

    def get_tensor_profile_shape(self, name, profile):
        return [list(shape) for shape in self.plan.profiles[profile][name]]

    def is_shape_inference_io(self, name):
        return name in self.plan.shape_tensors

    def create_execution_context(self, how):
        assert self.trt.is_current()
        if self.trt.refused("context", self.runtime.logger):
            return None
        strategy = how.strategy if isinstance(how, FakeConfig) else how
        assert strategy == USER_MANAGED, "The context would take scratch memory of its own."
        context = FakeContext(self, how)
        self.trt.contexts.add(context)
        return context

    def create_runtime_config(self):
        return FakeConfig(self.trt)

    def create_engine_inspector(self):
        return FakeInspector(self.plan.layers)

    def __del__(self):
        assert self.runtime.gpu_allocator.deallocate_async(self._weights, 0x5000)
        self.trt.note_freed("engine")


class FakeContext:
    """`IExecutionContext`."""

    profiler = None

    def __init__(self, engine, how):
        self.engine, self.trt, self.how = engine, engine.trt, how
        self.profile = 0
        self.profiler = None
        self.shapes, self.addresses, self.calls = {}, {}, []
        self.scratch = None

    def set_optimization_profile_async(self, profile, stream_handle):
        assert stream_handle
        if self._refused("profile"):
            return False
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.calls.append(("shape", name, shape))
        own = self.engine.plan.tensors[name].shape
        low, _, high = (own,) * 3 if min(own) >= 0 else self.engine.plan.profiles[self.profile][name]
        fits = all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True))
        if self._refused("shape") or not fits:
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        own = self.engine.plan.tensors[name].shape
        batch = next(iter(self.shapes.values()))[0]
        return [batch if side == -1 else side for side in own]  # -2: it depends on the data

    def update_device_memory_size_for_shapes(self):
        return self.engine.plan.scratch_bytes * next(iter(self.shapes.values()))[0]

    def set_device_memory(self, address, size_bytes):
        self.scratch = (address, size_bytes)

    def set_tensor_address(self, name, address):
        self.calls.append(("address", name, address))
        if self._refused("address"):
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle):
        assert self.trt.is_current()
        self.calls.append(("run", stream_handle))
        assert self.scratch is not None
        assert self.scratch[1] >= self.update_device_memory_size_for_shapes()
        if self._refused("run"):
            return False
        name, shape = next(iter(self.shapes.items()))
        size = prod(shape) * np.dtype(self.engine.plan.tensors[name].dtype).itemsize
        for output, tensor in self.engine.plan.tensors.items():
            if tensor.kind == OUTPUT:
                ctypes.memmove(self.addresses[output], self.addresses[name], size)
        for layer in self.engine.plan.layers if self.profiler is not None else ():
            self.profiler.report_layer_time(layer, 0.5)
        return True

    def _refused(self, what):
        return self.trt.refused(what, self.engine.runtime.logger)

    def __del__(self):
        self.trt.note_freed("context")


class FakeConfig:
    """`IRuntimeConfig`."""

    dynamic_shapes_kernel_specialization_strategy = None

    def __init__(self, trt):
        self._trt = trt
        trt.configs.add(self)
        self.strategy = self.cache = None

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def create_runtime_cache(self):
        self._trt.caches.append(FakeCache())
        return self._trt.caches[-1]

    def set_runtime_cache(self, cache):
        self.cache = cache


class FakeCache:
    """`IRuntimeCache`; `content` is what was compiled. It takes none that begins with `foreign`."""

    def __init__(self):
        self.content = b"compiled here"
        self.given = None

    def serialize(self):
        return memoryview(self.content)

    def deserialize(self, content):
        self.given = bytes(content)
        if self.given.startswith(b"foreign"):
            return False
        self.content = self.given
        return True


class FakeInspector:
    """`EngineInspector`."""

    def __init__(self, layers):
        self._layers = layers

    def get_engine_information(self, layout):
        assert layout == "json"
        return "" if self._layers is None else json.dumps({"Layers": self._layers, "Bindings": ["x", "y"]})
