"""Run in a process of its own: says what one release of TensorRT's bindings is like, as JSON.

Arguments: the runtime, the stub library that the bindings link to.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import sys
from pathlib import Path

import msgspec

from edgert.execute.tensorrt_bindings import load_bindings
from edgert.execute.tensorrt_log import EngineLog

SENT = {"size": 4096, "alignment": 256, "flags": 3, "stream": 0x5000}
ADDRESS = 0x7000


def describe(runtime, library):
    bindings = load_bindings(runtime, needs_device=False)
    trt = bindings.module
    log = EngineLog(trt, Path("model.plan"))
    trt_runtime = trt.Runtime(log.logger)
    differences = {
        name: getattr(bindings, name)
        for name in bindings.__struct_fields__
        if name not in ("module", "runtime")
    }
    return {
        "version": bindings.version,
        "table": msgspec.to_builtins(differences),
        "names": observed(trt),
        "said": log.last(),
        "allocations": allocations(trt, trt_runtime, library),
        "own_plugins": bindings.has_standard_plugins and trt.init_libnvinfer_plugins(log.logger, ""),
        "surface": surface(trt),
    }


def observed(trt):
    """Return what the names in the module tell of the fields of `Differences`."""

    def has(path):
        holder = trt
        for name in path.split("."):
            holder = getattr(holder, name, None)
        return holder is not None

    has_weak_typing = has("Builder.platform_has_fast_fp16")  # its flags outlived it in TensorRT-RTX 1.4
    return {
        "has_builder": has("Builder") and has("OnnxParser"),
        "is_strongly_typed": not has_weak_typing,
        "has_precision_flags": has("BuilderFlag.FP16") and has_weak_typing,
        "has_calibrators": has("IBuilderConfig.int8_calibrator"),
        "has_same_compute_capability": has("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"),
        "has_compute_capabilities": has("IBuilderConfig.set_compute_capability"),
        "has_engine_inspector": has("EngineInspector"),
        "has_runtime_config": has("ICudaEngine.create_runtime_config"),
        "has_runtime_cache": has("IRuntimeConfig.create_runtime_cache"),
        "has_standard_plugins": has("init_libnvinfer_plugins"),
    }


def allocations(trt, runtime, library):
    """Return how the binding calls an asynchronous allocator, asked both ways."""
    heard = []

    class Allocator(trt.IGpuAsyncAllocator):
        def __init__(self):
            trt.IGpuAsyncAllocator.__init__(self)

        def allocate_async(self, *arguments):
            heard.append(arguments)
            return ADDRESS

        def deallocate_async(self, *arguments):
            heard.append(arguments)
            return True

    allocator = Allocator()
    runtime.gpu_allocator = allocator
    stub = ctypes.CDLL(library)
    stub.stub_allocate_async.restype = stub.stub_allocate.restype = ctypes.c_void_p
    sizes = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32)
    stub.stub_allocate.argtypes = sizes
    stub.stub_allocate_async.argtypes = (*sizes, ctypes.c_void_p)
    stub.stub_deallocate.argtypes = (ctypes.c_void_p,)
    stub.stub_deallocate_async.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    answers = [
        stub.stub_allocate_async(*SENT.values()),
        stub.stub_deallocate_async(ADDRESS, SENT["stream"]),
        stub.stub_allocate(SENT["size"], SENT["alignment"], SENT["flags"]),
        stub.stub_deallocate(ADDRESS),
    ]
    return {"heard": heard, "answers": answers}


def surface(trt):
    """Return the members of every class, and of the module as class ''."""
    classes = {name: vars_of(value) for name, value in vars(trt).items() if inspect.isclass(value)}
    return {"": [name for name in vars(trt) if not name.startswith("__")], **classes}


def vars_of(kind):
    return [name for name in dir(kind) if not name.startswith("_")]


if __name__ == "__main__":
    json.dump(describe(*sys.argv[1:]), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # the stub's objects cannot be destroyed
