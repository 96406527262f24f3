"""From a source's options to the Source that reads it."""

from __future__ import annotations

import functools
from pathlib import Path

from edgert.capture.answers import Encode
from edgert.capture.camera import CameraSource
from edgert.capture.clip import ClipSource
from edgert.capture.gstreamer import GStreamerSource, csi_pipeline, with_appsink
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.replay import ReplaySource, decode_clip, make_noise
from edgert.capture.source import Source
from edgert.capture.uri import SourceSpec
from edgert.capture.video import FFMPEG, GSTREAMER, V4L2, device_settings, has_gstreamer, network_settings
from edgert.stats import CopyCounts


def open_source(
    name: str,
    options: SourceOptions,
    *,
    encode: Encode,
    folder: Path,
    copies: CopyCounts,
    clock: Clock | None = None,
) -> Source:
    """Return the source that `options` describe, for a Capture to open. Raises ConfigError.

    `encode` makes an answer's payload from a result, relative paths begin at `folder`, and copies of
    pixels are counted in `copies`.
    """
    clock = clock or Clock()
    spec = options.spec()
    if spec.kind == "zeromq":
        from edgert.capture.zeromq import ZeroMqSource  # pyzmq only where it is used

        return ZeroMqSource(name, options, encode=encode, copies=copies, clock=clock)
    path = folder / Path(spec.target).expanduser()
    if spec.kind == "file":
        return ClipSource(path, frames_per_s=options.fps, is_looped=options.loop, copies=copies, clock=clock)
    if spec.kind == "replay":
        return _make_replay(spec, options, path, copies, clock)
    return _make_camera(spec, options, copies, clock)


def _make_replay(
    spec: SourceSpec, options: SourceOptions, path: Path, copies: CopyCounts, clock: Clock
) -> Source:
    wanted = spec.settings
    if spec.target == "noise":
        size = (wanted["width"], wanted["height"])
        load = functools.partial(make_noise, *size, wanted["frames"], wanted["seed"])
    else:
        load = functools.partial(decode_clip, path, wanted["frames"])
    total = wanted["total"] or (-1 if options.loop else 0)
    return ReplaySource(load, frames_per_s=options.fps or 0.0, total=total, copies=copies, clock=clock)


def _make_camera(spec: SourceSpec, options: SourceOptions, copies: CopyCounts, clock: Clock) -> Source:
    if spec.kind == "rtsp":
        settings = network_settings(options.open_timeout_s, options.stall_s)
        return CameraSource(spec.target, FFMPEG, settings, copies=copies, clock=clock)
    if spec.kind == "v4l2":
        settings = device_settings(options.width, options.height, options.fps or 0.0, options.fourcc)
        return CameraSource(spec.target, V4L2, settings, copies=copies, clock=clock)
    if spec.kind == "csi":
        size = (options.width, options.height)
        pipeline = csi_pipeline(int(spec.target), *size, options.fps or 0.0)
    else:
        pipeline = with_appsink(spec.target)
    if has_gstreamer():
        return CameraSource(pipeline, GSTREAMER, copies=copies, clock=clock)
    return GStreamerSource(pipeline, copies=copies, clock=clock)
