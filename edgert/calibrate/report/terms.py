"""What the report's words mean, one short line each, where the word stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from edgert.calibrate.compare.metrics import IOU_MIN

_FIGURES = {
    "same top-1": "frames whose best class is the same in FP32 and INT8",
    "top-5 overlap": "share of the five best classes that both have",
    "top-1 accuracy": "frames whose best class is the labelled one",
    "top-5 accuracy": "frames that have the labelled class among the five best",
    "recall": f"FP32's detections that INT8 has: same class, IoU {IOU_MIN} or more",
    "precision": "INT8's detections that FP32 has",
    "score error": "difference of the two scores of one detection",
    "overlap (IoU)": "area that both boxes cover by the area that either covers; 1: the same box",
    "mAP 0.5:0.95": "mean average precision against the labels, over IoU 0.5 to 0.95, as COCO defines it",
    "mAP 0.5": "mean average precision against the labels, at IoU 0.5",
    "size": "of the ONNX files",
}
_COSINE = "of the angle between both models' values of this output; 1: the same direction"
METHODS = {
    "method": "how a tensor's threshold, the magnitude that becomes 127, was chosen",
    "minmax": "the largest magnitude seen",
    "percentile": "so many per cent of the values lie within",
    "mse": "least mean squared error of rounding and clipping",
    "entropy": "least relative entropy (KL divergence) of the rounded values",
    "agreement": "same best class; or F1 of the detections: twice those both have, by all of both; or cosine",
}
LAYERS = {
    "error": "of the model's outputs, by their size, with this layer alone in INT8",
    "float": "FP32, here and in engines of strongly typed TensorRT (11, RTX); TensorRT 10 and older may take "
    "FP16 there. FP16 is not written: these figures would not be of it, as a CPU computes it in FP32",
}
TENSORS = {
    "SQNR": "signal to quantization noise: power of the values by power of their error, in dB; 6 dB is a bit",
    "threshold": "the magnitude that becomes 127",
    "saturated": "values beyond the threshold, which become the threshold",
    "zeros": "values that are exactly 0, which stay so",
}


def term_of(title: str) -> str:
    """Return what a figure's title means; empty if it says that itself."""
    return _COSINE if title.startswith("cosine of ") else _FIGURES.get(title, "")


def term_lines(terms: dict[str, str], names: Iterable[str]) -> Iterator[str]:
    """Yield a line of HTML for each term that a name begins with, in the order of the terms."""
    names = tuple(names)
    for term, meaning in terms.items():
        if any(name.startswith(term) for name in names):
            yield f'<p class="dim"><b>{escape(term)}</b>: {escape(meaning)}</p>'
