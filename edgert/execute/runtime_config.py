"""How TensorRT is told to make execution contexts, and where TensorRT-RTX keeps what it compiled for them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edgert.execute.engine import EngineInfo
from edgert.execute.runtime_cache import RuntimeCacheFile
from edgert.execute.tensorrt_bindings import Bindings

log = logging.getLogger(__name__)


class RuntimeConfigs:
    """One engine's configurations. With TensorRT-RTX the compiled kernels outlive the process, on disk.

    Contexts of an engine with fixed sides share one configuration and its kernels: a second context costs
    3 MB and no time. Where sides are variable, TensorRT-RTX compiles kernels for each shape when it is first
    run; of several contexts that share a cache only the first then has them, the others run on general
    ones, measured 30 times slower (1.4.0.76). So there each context has a copy of its own.
    """

    def __init__(self, bindings: Bindings, engine: Any, info: EngineInfo, file: Path) -> None:
        self._bindings = bindings
        self._engine = engine
        self._file = RuntimeCacheFile(file) if bindings.has_runtime_cache else None
        is_variable = any(min(spec.shape, default=0) < 0 for spec in info.inputs)
        self.compiles_each_shape = bindings.has_runtime_cache and is_variable
        self._kept = self._file.read() if self._file else b""  # what the file holds
        self._config: Any = None
        self._cache: Any = None  # of the newest configuration

    def for_context(self, *, allocates_scratch: bool = False) -> Any:
        """Return what `ICudaEngine.create_execution_context` is called with.

        The context `allocates_scratch` memory for itself, or is given it.
        """
        strategies = self._bindings.module.ExecutionContextAllocationStrategy
        strategy = strategies.STATIC if allocates_scratch else strategies.USER_MANAGED
        if not self._bindings.has_runtime_config:
            return strategy
        if self._config is None or self.compiles_each_shape:
            self._config = self._open()
            self._config.set_execution_context_allocation_strategy(strategy)
        return self._config

    def keep(self) -> None:
        """Write what was compiled, if it is new."""
        content = self._compiled()
        if self._file and content != self._kept:
            self._file.write(content)
            self._kept = content

    def close(self) -> None:
        """Drop everything."""
        self._config = self._cache = self._engine = None

    def _open(self) -> Any:
        config = self._engine.create_runtime_config()
        if self._file:
            # Else a graph would keep the general kernels, which run while the right ones are compiled.
            kinds = self._bindings.module.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
            content, self._cache = self._compiled(), config.create_runtime_cache()
            if content and not self._cache.deserialize(content):
                log.info("what was compiled before is of another GPU, driver or release; it is compiled anew")
            config.set_runtime_cache(self._cache)
        return config

    def _compiled(self) -> bytes:
        return bytes(self._cache.serialize()) if self._cache is not None else self._kept
