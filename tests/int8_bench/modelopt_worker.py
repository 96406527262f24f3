"""nvidia-modelopt's ONNX quantization: modelopt_worker.py METHOD MODEL TENSORS.npy FRAMES OUT.

METHOD is `max` or `entropy`. What is not INT8 stays FP32, so that only INT8 is compared. Runs in an
interpreter of its own, so it imports nothing of edgert.
"""

import sys
import time

from frame_reader import FrameReader
from modelopt.onnx.quantization import quantize


def main(method: str, model: str, tensors: str, frames: str, out: str) -> None:
    """Quantize, and print how long the call took."""
    reader = FrameReader(model, tensors, int(frames))
    began = time.monotonic()
    quantize(
        model,
        calibration_data_reader=reader,
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=out,
        log_level="ERROR",
    )
    print(f"call_s={time.monotonic() - began:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
