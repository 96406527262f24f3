"""What the recipe itself says of layers and thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from edgert.calibrate.cache import CachedThresholds, thresholds_from_cache
from edgert.calibrate.quantize.decode_tail import decode_tail
from edgert.calibrate.quantize.layers import matching, weighted_layers
from edgert.calibrate.quantize.placement import Placement, place
from edgert.calibrate.setting import Setting
from edgert.errors import ConfigError, ModelError
from edgert.models.calibration_cache import read_calibration_cache

ASKED_FOR = "asked for"
DECODE_TAIL = "decode tail"


def placement_asked_for(setting: Setting) -> tuple[Placement, Mapping[str, str]]:
    """Return what is quantized, and which layers are kept in float, with the reason.

    Raises:
        ConfigError: there is no such layer.
        ModelError: nothing is left to quantize.
    """
    graph, options = setting.model.graph(), setting.recipe.options.quantize
    layers = weighted_layers(graph)
    where = f"{setting.recipe.path}: quantize"
    for pattern in options.keep:
        if not any(matching(layers, [pattern], ())):
            names = ", ".join(layer.name for layer in layers[:3])
            raise ConfigError(
                f"{where}.keep: no layer is called {pattern!r}; there are {len(layers)}, such as {names}"
            )
    for operator in options.keep_types:
        if not any(matching(layers, (), [operator])):
            found = ", ".join(sorted({layer.operator for layer in layers}))
            raise ConfigError(f"{where}.keep_types: no layer is a {operator!r}; there are {found}")
    asked_for = matching(layers, options.keep, options.keep_types)
    kept = dict.fromkeys(decode_tail(graph), DECODE_TAIL) | dict.fromkeys(asked_for, ASKED_FOR)
    placement = place(graph, kept)
    if not placement.layers:
        raise ModelError(
            f"{setting.model.file.path}: has no layer that could be quantized: "
            + (f"all {len(layers)} are to be kept in float." if layers else "none has constant weights.")
        )
    return placement, kept


def cached_thresholds(setting: Setting, placement: Placement, name: str) -> CachedThresholds:
    """Return what TensorRT's cache `name` says of the model. Raises ConfigError."""
    file = setting.recipe.file(name)
    names = {tensor.name for node in setting.model.graph().nodes for tensor in node.outputs}
    names.add(setting.model.input_name)
    cache = read_calibration_cache(file)
    found = thresholds_from_cache(cache, file, graph=sorted(names), wanted=placement.tensors)
    if not placement.within(found.thresholds).layers:
        raise ConfigError(f"{file}: has no range for what the layers read, so none could be INT8")
    return found
