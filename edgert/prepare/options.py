"""The `[prepare]` table of edgert.toml: how a picture becomes a tensor."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edgert.config import Options
from edgert.frames.placement import Anchor

Side = Annotated[int, Meta(ge=1, le=16384)]
PerChannel = float | Annotated[tuple[float, ...], Meta(min_length=1)]


class PrepareOptions(Options, frozen=True, kw_only=True):
    """A tensor's value is (pixel - mean) * scale, pixel 0..255, after the picture was resized."""

    input: str | None = None  # the input tensor that takes the picture, where the engine has several
    fit: Literal["letterbox", "stretch", "crop", "none"] = "letterbox"  # none: every frame at its own size
    keep: Annotated[float, Meta(gt=0, le=1)] = 0.875  # crop: the part of the shorter side that is kept
    anchor: Anchor = "centre"  # letterbox: where the picture stands
    pad: Annotated[int, Meta(ge=0, le=255)] = 114  # letterbox: the padding, as a pixel before mean and scale
    size: tuple[Side, Side] | None = None  # [width, height] where the engine leaves them open
    interpolation: Literal["linear", "area", "nearest"] = "linear"
    colour: Literal["rgb", "bgr", "gray"] = "rgb"  # the tensor's channels, in order
    mean: PerChannel = 0.0  # subtracted; one number, or one for each channel in the order of `colour`
    scale: PerChannel = 1.0  # multiplied after that, e.g. 0.0078431 for -1..1 with mean 127.5
    layout: Literal["nchw", "nhwc"] = "nchw"
