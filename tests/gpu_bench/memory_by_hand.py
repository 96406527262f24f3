"""A process as somebody writes it who has no edgert: eight contexts that share one runtime cache.

python -m tests.gpu_bench.memory_by_hand PLAN CACHE_FILE

Runs each context once and prints the process's memory as JSON.
"""

import json
import sys
from pathlib import Path

import pycuda.driver as cuda
import tensorrt_rtx as trt

CONTEXTS = 8
ITEM_BYTES = {"FLOAT": 4, "HALF": 2}


def main(plan: Path, cache_file: Path) -> None:
    cuda.init()
    device_context = cuda.Device(0).retain_primary_context()
    device_context.push()
    try:
        logger = trt.Logger(trt.Logger.ERROR)
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        config = engine.create_runtime_config()
        cache = config.create_runtime_cache()
        if cache_file.exists():
            cache.deserialize(cache_file.read_bytes())
        config.set_runtime_cache(cache)
        contexts = [Context(engine, config) for _ in range(CONTEXTS)]
        for context in contexts:
            context.run()
        cache_file.write_bytes(bytes(cache.serialize()))
        print(json.dumps(sizes()))
        del context, contexts, cache, config, engine, runtime
    finally:
        cuda.Context.pop()


class Context:
    """One execution context with a stream and memory for its tensors."""

    def __init__(self, engine, config):
        self.context = engine.create_execution_context(config)
        assert self.context is not None, "no execution context"
        self.stream = cuda.Stream()
        self.memory = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            count = 1
            for side in self.context.get_tensor_shape(name):
                count *= side
            self.memory.append(cuda.mem_alloc(count * ITEM_BYTES[engine.get_tensor_dtype(name).name]))
            assert self.context.set_tensor_address(name, int(self.memory[-1])), name

    def run(self):
        assert self.context.execute_async_v3(self.stream.handle), "did not run"
        self.stream.synchronize()


def sizes() -> dict:
    """Return RSS and PSS of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return {"rss_bytes": _bytes(status, "VmRSS:"), "pss_bytes": _bytes(rollup, "Pss:")}


def _bytes(lines: list, name: str) -> int:
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
