"""From a source's options to the Source that reads it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgert.capture import video
from edgert.capture.answers import Encode
from edgert.capture.camera import CameraSource
from edgert.capture.clip import ClipSource
from edgert.capture.gstreamer import GStreamerSource, csi_pipeline, with_appsink
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.replay import ReplaySource, decode_clip, make_noise
from edgert.capture.source import Source
from edgert.capture.uri import SourceSpec
from edgert.stats import CopyCounts


def make_source(
    name: str,
    options: SourceOptions,
    *,
    encode: Encode,
    folder: Path = Path(),
    copies: CopyCounts | None = None,
    clock: Clock | None = None,
) -> Source:
    """Return the source that `options` describe, not yet open.

    `encode` makes the payload of an answer from a result, for sources that answer; paths are relative
    to `folder`; copies of pixels are counted in `copies`. Raises ConfigError.
    """
    spec = options.spec()
    counted = copies or CopyCounts()
    ticking = clock or Clock()
    if spec.kind == "zeromq":
        from edgert.capture.zeromq import ZeroMqSource

        return ZeroMqSource(name, options, encode=encode, copies=counted, clock=ticking)
    if spec.kind == "file":
        return ClipSource(
            folder / Path(spec.target).expanduser(),
            frames_per_s=options.fps,
            is_looped=options.loop,
            copies=counted,
            clock=ticking,
        )
    if spec.kind == "replay":
        return _make_replay(spec, options, folder, counted, ticking)
    return _make_camera(spec, options, counted, ticking)
