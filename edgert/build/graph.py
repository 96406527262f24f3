"""What has to be done to the graph before a runtime parses it: precision, and fewer boxes."""

from __future__ import annotations

from edgert.build.onnx_file import OnnxFile
from edgert.build.options import BuildOptions, Reduction
from edgert.build.reduce import keep_best_anchors, keep_best_boxes
from edgert.decode.factory import DecodeOptions
from edgert.decode.ssd import SsdOptions
from edgert.decode.tensors import TensorsOptions
from edgert.decode.yolo import YoloOptions
from edgert.errors import ConfigError


def settle_graph(
    file: OnnxFile, options: BuildOptions, decode: DecodeOptions, *, has_precision_flags: bool
) -> OnnxFile:
    """Return the model as it is to be parsed. `decode` says which outputs hold boxes and scores.

    Where the builder chooses precision (`has_precision_flags`), the graph stays FP32. Boxes are counted
    behind the conversion, so their ranking is done in FP32.

    Raises:
        ConfigError: model and options do not fit.
        ModelError: the conversion fails.
    """
    _check_precision(file, options)
    if options.precision == "fp16" and not has_precision_flags:
        from edgert.build.precision import to_fp16  # onnxruntime only where it is needed

        file = to_fp16(file)
    return reduced(file, options.reduction, decode) if options.reduction else file


def reduced(file: OnnxFile, reduction: Reduction, decode: DecodeOptions) -> OnnxFile:
    """Return a detector that gives its best boxes only. Raises ConfigError if it is none that can."""
    if isinstance(decode, YoloOptions):
        return keep_best_boxes(file, reduction.top_k, output=decode.output, head=decode.head)
    if not isinstance(decode, SsdOptions | TensorsOptions):
        kind = type(decode).__struct_config__.tag
        raise ConfigError(
            f"--top-k: the model's [decode] kind is {kind}, expected ssd or yolo: others rank no boxes"
        )
    ssd = decode if isinstance(decode, SsdOptions) else SsdOptions()
    return keep_best_anchors(
        file,
        reduction.top_k,
        boxes=reduction.boxes or ssd.boxes,
        scores=reduction.scores or ssd.scores,
        class_offset=ssd.class_offset,
    )


def _check_precision(file: OnnxFile, options: BuildOptions) -> None:
    if file.is_quantized and options.precision != "int8":
        raise ConfigError(
            f"{file.path}: --precision {options.precision}, but the graph is quantized (it has Q/DQ nodes). "
            "Give --precision int8, or the model before it was quantized"
        )
    is_calibrated = options.calibration_cache is not None or options.calibrator is not None
    if options.precision == "int8" and not file.is_quantized and not is_calibrated:
        raise ConfigError(
            f"{file.path}: --precision int8, but the graph is not quantized. Give a model with Q/DQ "
            "nodes, or, with TensorRT 10, --calibration-cache"
        )
