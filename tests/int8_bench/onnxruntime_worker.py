"""onnxruntime.quantization: onnxruntime_worker.py SETTINGS METHOD MODEL TENSORS.npy FRAMES OUT.

SETTINGS is `default`, or `tensorrt`, which gives what TensorRT parses and fuses: symmetric, no quantized
bias, weights per channel, no Q/DQ behind the operators. METHOD is `minmax` or `entropy`.
Imports nothing of edgert.
"""

import sys
import time

import onnx
from frame_reader import FrameReader
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}


def for_tensorrt(model: onnx.ModelProto) -> dict:
    """Return the arguments for a model that TensorRT can take."""
    operators = sorted({node.op_type for node in model.graph.node})
    extra = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": False,
        "OpTypesToExcludeOutputQuantization": operators,
        "QDQDisableWeightAdjustForInt32Bias": True,
    }
    return {
        "per_channel": True,
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "op_types_to_quantize": ["Conv", "Gemm", "MatMul", "Add"],
        "extra_options": extra,
    }


def main(settings: str, method: str, path: str, tensors: str, frames: str, out: str) -> None:
    """Quantize, and print how long the call took."""
    arguments = for_tensorrt(onnx.load(path)) if settings == "tensorrt" else {}
    reader = FrameReader(path, tensors, int(frames))
    began = time.monotonic()
    quantize_static(path, out, reader, calibrate_method=METHODS[method], **arguments)
    print(f"call_s={time.monotonic() - began:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
