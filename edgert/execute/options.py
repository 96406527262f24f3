"""The `[engine]` table of a model's edgert.toml."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgert.config import Options

Runtime = Literal["onnxruntime", "noop", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]


class EngineOptions(Options, frozen=True, kw_only=True):
    """How the engine runs."""

    runtime: Runtime | None = None  # None: from config.pbtxt's platform or backend
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0  # CPU threads a lane; 0: the cores shared among all lanes
    lanes: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # 0: instance_group's count
