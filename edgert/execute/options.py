"""The `[engine]` table of a model's edgert.toml."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgert.config import Options

Runtime = Literal["onnxruntime", "noop", "tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]


class PluginOptions(Options, frozen=True, kw_only=True):
    """A plugin library. Loading it runs its code."""

    file: str  # relative to the model's folder
    sha256: str


class EngineOptions(Options, frozen=True, kw_only=True):
    """How the engine runs."""

    runtime: Runtime | None = None  # None: from config.pbtxt's platform or backend
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0  # CPU threads a lane; 0: the cores shared among all lanes
    lanes: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # 0: instance_group's count
    graphs: Annotated[int, msgspec.Meta(ge=0, le=256)] = 8  # CUDA graphs for each buffer set; 0: none
    priority: Annotated[int, msgspec.Meta(ge=-8, le=8)] = 0  # of the lanes' streams; higher goes first
    scratch_group: str = ""  # models of one group never run at once and share one scratch buffer
    memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 0  # bound for the model's device memory; 0: none
    host_code_allowed: bool = False  # a plan may carry code for the host, e.g. an embedded lean runtime
    manifest_required: bool = False  # refuse a plan without its manifest
    plugins: tuple[PluginOptions, ...] = ()  # libraries that the engine needs
