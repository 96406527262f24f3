"""Runs an ONNX file on held-out tensors, and measures its speed on the CPU."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime

from edgert.frames.result import Array

PAIRS = 15
Outputs = dict[str, Array]  # by name, (frames, ...)


def run_model(model: Path, tensors: Array, batch: int) -> Outputs:
    """Return the outputs for all frames, `batch` at a time.

    Q/DQ is carried out as the file says, in float32, not fused into the CPU's integer kernels: the figures
    are of the quantization and not of the machine (some CPUs saturate in those kernels).
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names, name = [output.name for output in session.get_outputs()], session.get_inputs()[0].name
    parts = [
        session.run(names, {name: tensors[first : first + batch]}) for first in range(0, len(tensors), batch)
    ]
    return {
        name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }


def speed_ratio(model: Path, reference: Path, tensor: Array) -> dict[str, float]:
    """Return how many times as fast as `reference` a model is, on one CPU thread, one frame at a time.

    The median of pairs of runs, because the machine's speed drifts; integer kernels are on.
    """
    sessions = [_one_thread(model), _one_thread(reference)]
    for session in sessions:
        _run_ms(session, tensor)
    pairs = [[_run_ms(session, tensor) for session in sessions] for _ in range(PAIRS)]
    ratio = statistics.median(fp32_ms / int8_ms for int8_ms, fp32_ms in pairs)
    return {"ratio": ratio, "ms": statistics.median(int8_ms for int8_ms, _ in pairs)}


def _one_thread(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _run_ms(session: onnxruntime.InferenceSession, tensor: Array) -> float:
    began = time.perf_counter()
    session.run(None, {session.get_inputs()[0].name: tensor})
    return (time.perf_counter() - began) * 1e3
