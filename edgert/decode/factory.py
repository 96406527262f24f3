"""The `[decode]` table of edgert.toml, and the decoder it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgert.decode.centerface import CenterFaceDecoder, CenterFaceOptions
from edgert.decode.classify import ClassifyDecoder, ClassifyOptions
from edgert.decode.decoder import Decoder
from edgert.decode.ssd import SsdDecoder, SsdOptions
from edgert.decode.tensors import TensorsDecoder, TensorsOptions
from edgert.decode.yolo import YoloDecoder, YoloOptions
from edgert.models.tensor_spec import TensorSpec

DecodeOptions = SsdOptions | CenterFaceOptions | YoloOptions | ClassifyOptions | TensorsOptions

_DECODERS: dict[type, Callable[[Any, Sequence[str], dict[str, tuple[int, ...]]], Decoder]] = {
    SsdOptions: SsdDecoder,
    CenterFaceOptions: CenterFaceDecoder,
    YoloOptions: YoloDecoder,
    ClassifyOptions: ClassifyDecoder,
    TensorsOptions: TensorsDecoder,
}


def open_decoder(
    options: DecodeOptions | None,
    labels: Sequence[str],
    outputs: tuple[TensorSpec, ...],
    *,
    has_batch_axis: bool = True,
) -> Decoder:
    """Return the decoder for an engine with these outputs; None asks for plain tensors.

    Raises:
        ModelError: options, labels and outputs do not fit together.
    """
    first = 1 if has_batch_axis else 0
    shapes = {spec.name: tuple(spec.shape[first:]) for spec in outputs}
    chosen = options or TensorsOptions()
    return _DECODERS[type(chosen)](chosen, labels, shapes)
