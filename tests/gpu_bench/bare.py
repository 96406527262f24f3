"""Loops written by hand on pycuda, TensorRT-RTX and CUDA graphs. Nothing of edgert is in them."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
import pycuda.driver as cuda

_CUDA = ctypes.CDLL("libcuda.so.1")


def _check(status):
    assert status == 0, f"CUDA status {status}"


class BareContext:
    """One execution context with a stream, pinned arrays and device buffers; perhaps a captured graph."""

    def __init__(self, engine, config):
        self.context = engine.create_execution_context(config)
        self.stream = cuda.Stream()
        self.copies = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(self.context.get_tensor_shape(name))
            is_input = "INPUT" in str(engine.get_tensor_mode(name))
            host = cuda.pagelocked_empty(shape, np.float16)
            host[...] = np.random.default_rng(0).standard_normal(shape)
            device = cuda.mem_alloc(host.nbytes)
            assert self.context.set_tensor_address(name, int(device))
            self.copies.append((is_input, host, device))
        self.graph = None
        self.enqueue()
        self.stream.synchronize()

    def enqueue(self):
        """Copy in, run, copy out."""
        for is_input, host, device in self.copies:
            if is_input:
                cuda.memcpy_htod_async(device, host, self.stream)
        assert self.context.execute_async_v3(self.stream.handle)
        for is_input, host, device in self.copies:
            if not is_input:
                cuda.memcpy_dtoh_async(host, device, self.stream)

    def capture(self):
        """Make one graph of all three."""
        handle, graph, executable = ctypes.c_void_p(self.stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
        _check(_CUDA.cuStreamBeginCapture_v2(handle, 2))
        self.enqueue()
        _check(_CUDA.cuStreamEndCapture(handle, ctypes.byref(graph)))
        _check(_CUDA.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
        self.graph, self._handle = executable, handle

    def launch(self):
        """Run the graph."""
        _check(_CUDA.cuGraphLaunch(self.graph, self._handle))


class BareLoop:
    """Contexts of one engine that share a runtime cache, which begins with `kernels`.

    The CUDA context has to be current.
    """

    def __init__(self, plan: Path, contexts: int, kernels: bytes = b""):
        import tensorrt_rtx as trt

        from tests.gpu.plans import shared_logger

        self._runtime = trt.Runtime(shared_logger())
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if kernels:
            self._cache.deserialize(kernels)
        config.set_runtime_cache(self._cache)
        self._contexts = [BareContext(self._engine, config) for _ in range(contexts)]

    def kernels(self) -> bytes:
        """Return what was compiled."""
        return bytes(self._cache.serialize())

    def capture(self):
        """Make a graph of every context."""
        for context in self._contexts:
            context.capture()

    def plain(self, runs: int) -> float:
        """Enqueue in turns; return runs a second. Completion is noticed once, at the end."""
        return self._timed(runs, BareContext.enqueue)

    def graphs(self, runs: int) -> float:
        """Launch in turns; return runs a second. Completion is noticed once, at the end."""
        return self._timed(runs, BareContext.launch)

    def one_at_a_time(self, runs: int) -> list[float]:
        """Launch one graph and wait for it, again and again; return each one's milliseconds."""
        context, took = self._contexts[0], []
        for _ in range(runs):
            started = time.perf_counter_ns()
            context.launch()
            context.stream.synchronize()
            took.append((time.perf_counter_ns() - started) / 1e6)
        return took

    def _timed(self, runs, run):
        started, contexts = time.perf_counter(), self._contexts
        count = len(contexts)
        for index in range(runs):
            run(contexts[index % count])
        for context in contexts:
            context.stream.synchronize()
        return runs / (time.perf_counter() - started)
