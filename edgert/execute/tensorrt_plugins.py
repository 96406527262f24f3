"""Plugin libraries that an engine needs, `[[engine.plugins]]` of edgert.toml.

A plugin library is native code: it runs in this process, with all its rights, from the moment it is loaded.
So only a file whose hash stands in edgert.toml is loaded. The hash says that it is the file that was meant.
It does not say that the file is harmless, nor does it help where others may write to the model's folder.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgert.errors import ModelError
from edgert.execute.options import PluginOptions
from edgert.execute.tensorrt_bindings import Bindings
from edgert.models.files import confined
from edgert.models.manifest import sha256_of

log = logging.getLogger(__name__)

# TensorRT has one registry of plugins for the process, so what was loaded into it is the process's too.
# By runtime and hash; the handle keeps the library from being unloaded.
_loaded: dict[tuple[str, str], Any] = {}
_lock = threading.Lock()
_STANDARD = "NVIDIA's own"
_ENTRY_POINTS = ("getCreators", "getPluginCreators")  # what a registry looks for in a library


def load_plugins(bindings: Bindings, logger: Any, plugins: Sequence[PluginOptions], folder: Path) -> None:
    """Register NVIDIA's own plugins and load these libraries, each once in a process. Runs their code.

    `folder` is the model's, and `logger` lives as long as the process.

    Raises:
        ModelError: a library is absent, is not the one meant, or cannot be loaded.
    """
    with _lock:
        _register_standard(bindings, logger)
        for plugin in plugins:
            file = confined(folder, plugin.file, folder, f"{folder / 'edgert.toml'}: engine.plugins.file")
            _load_once(bindings, file, plugin.sha256.lower())


def _register_standard(bindings: Bindings, logger: Any) -> None:
    key = (bindings.runtime, _STANDARD)
    if key in _loaded or not bindings.has_standard_plugins:
        return
    if not bindings.module.init_libnvinfer_plugins(logger, ""):
        raise ModelError(
            f"{bindings.title} cannot register its own plugins (libnvinfer_plugin). Install it again"
        )
    _loaded[key] = True


def _load_once(bindings: Bindings, file: Path, expected: str) -> None:
    actual = sha256_of(file)
    if actual != expected:
        raise ModelError(
            f"{file}: the plugin library has SHA-256 {actual}, edgert.toml expects {expected}. If you trust "
            f"this file, write there what this prints: sha256sum {file}"
        )
    key = (bindings.runtime, actual)
    if key not in _loaded:
        _loaded[key] = _load(bindings, file)
        log.info("loaded plugin library %s", file)


def _load(bindings: Bindings, file: Path) -> Any:
    """Load through TensorRT's registry, or as a library of the older kind, which registers itself."""
    handle = bindings.module.get_plugin_registry().load_library(str(file))
    if handle is not None:
        return handle
    library = _open(file)
    if any(hasattr(library, name) for name in _ENTRY_POINTS):
        raise ModelError(
            f"{file}: {bindings.title} refuses this plugin library, and logs why. Perhaps another library "
            "has a plugin of the same name and version"
        )
    _initialise(library, file)
    return library


def _open(file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ModelError(f"{file}: the plugin library cannot be loaded: {error}") from error


def _initialise(library: ctypes.CDLL, file: Path) -> None:
    """Call initLibNvInferPlugins where it is; elsewhere loading has registered the plugins."""
    initialise = getattr(library, "initLibNvInferPlugins", None)
    if initialise is None:
        return
    initialise.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    initialise.restype = ctypes.c_bool
    if not initialise(None, b""):  # without a logger of its own
        raise ModelError(f"{file}: initLibNvInferPlugins of the plugin library reports failure")
