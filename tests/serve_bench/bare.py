"""A loop on onnxruntime with nothing around it: python bare.py MODEL THREADS.

For each line on stdin, a number of seconds, it runs for that long and prints what it did as JSON. Output
arrays are bound once, as edgert's are. Knows nothing of edgert.
"""

import json
import sys
import time

import numpy as np
import onnxruntime


def main(model: str, threads: int) -> None:
    """Answer lines until stdin ends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = bound(session)
    for _ in range(3):
        session.run_with_iobinding(binding)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(session, binding, float(line))), flush=True)


def bound(session: onnxruntime.InferenceSession) -> onnxruntime.IOBinding:
    """Return the session's tensors for a batch of one, the input random."""
    binding = session.io_binding()
    random = np.random.default_rng(7)
    for node in session.get_inputs():
        array = random.random([1, *node.shape[1:]], np.float32) * 2 - 1
        binding.bind_cpu_input(node.name, array)
    for node in session.get_outputs():
        array = np.empty([1, *node.shape[1:]], np.float32)
        pointer = array.ctypes.data
        binding.bind_output(node.name, "cpu", 0, np.float32, array.shape, pointer)
        held.append(array)
    return binding


def run(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, seconds: float) -> dict:
    """Run for so long, and return runs, seconds and CPU seconds."""
    cpu_s, began_s = time.process_time(), time.perf_counter()
    runs, now_s = 0, began_s
    while now_s - began_s < seconds:
        session.run_with_iobinding(binding)
        runs, now_s = runs + 1, time.perf_counter()
    took_s, cpu_s = now_s - began_s, time.process_time() - cpu_s
    return {"runs": runs, "seconds": took_s, "cpu_s": cpu_s, "per_s": runs / took_s}


held: list = []

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
