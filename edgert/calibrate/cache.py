"""Between the thresholds of an ONNX graph and the calibration caches of TensorRT 10 and older.

A cache that edgert writes lists what the INT8 layers read, and one branch of residual additions: the tensors
that get Q and DQ. TensorRT's own lists nearly every tensor of the network. It runs a layer as INT8 only if it
knows a range for what goes in and what comes out, so with edgert's cache a layer whose output only float
layers read, as the last one's, may write float; what lies between INT8 layers is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from edgert.errors import ConfigError
from edgert.models.calibration_cache import MAX_LEVEL, Algorithm, CalibrationCache, version_number

MATCHED_MIN = 0.5  # TensorRT adds tensors of its own, and leaves out those that it fuses away
_LAST_RELEASE = 10
_UNNAMED = "(Unnamed Layer* "
_SHOWN = 2


class CachedThresholds(msgspec.Struct, frozen=True):
    """What a cache says of a graph. The tensors of `without_range` and `without_entry` stay in float."""

    thresholds: dict[str, float]  # tensor -> amax, in the order of the wanted tensors
    without_range: tuple[str, ...]  # wanted, and listed with 0: TensorRT found nothing there
    without_entry: tuple[str, ...]  # wanted, and not listed: TensorRT fuses it away or does not quantize it
    left_out: tuple[str, ...]  # entries that are no tensor of the graph


def cache_from_thresholds(
    thresholds: Mapping[str, float], release: Sequence[int], algorithm: Algorithm = "EntropyCalibration2"
) -> CalibrationCache:
    """Return the cache with which a release of TensorRT, (10, 3, 0), quantizes as the thresholds say.

    A threshold of 0 becomes an entry without a range. TensorRT keeps a tensor without an entry in float.

    Raises:
        ConfigError: the release has no calibrators, or a threshold or a name is none that a cache can hold.
    """
    if release[0] > _LAST_RELEASE:
        raise ConfigError(
            f"TensorRT {'.'.join(map(str, release))} reads no calibration caches, they ended with "
            f"{_LAST_RELEASE}. Build the model with Q/DQ nodes instead"
        )
    scales = {name: float(amax) / MAX_LEVEL for name, amax in thresholds.items()}
    cache = CalibrationCache(version_number(release), algorithm, scales)
    cache.encode()  # refuses now what could not be written
    return cache


def thresholds_from_cache(
    cache: CalibrationCache, file: Path, graph: Collection[str], wanted: Collection[str] | None = None
) -> CachedThresholds:
    """Return the thresholds that a cache has for a graph.

    Args:
        cache: What the file says.
        file: For messages.
        graph: The names of all the graph's tensors: inputs and every node's outputs.
        wanted: Those to be quantized; None: all.

    Raises:
        ConfigError: the cache is of another network, or has no range for any wanted tensor.
    """
    _check_network(cache, graph, file)
    known = set(graph)
    places = tuple(graph if wanted is None else wanted)
    found = CachedThresholds(
        thresholds={name: amax for name in places if (amax := cache.amax(name)) is not None},
        without_range=tuple(name for name in places if cache.scales.get(name) == 0),
        without_entry=tuple(name for name in places if name not in cache.scales),
        left_out=tuple(name for name in cache.scales if name not in known),
    )
    if not found.thresholds:
        raise ConfigError(
            f"{file}: has a range for none of the {len(places)} tensors to be quantized "
            f"({_examples(places)}). Calibrate from frames"
        )
    return found


def _check_network(cache: CalibrationCache, graph: Collection[str], file: Path) -> None:
    """Raise ConfigError if too few names are on both sides; of the shorter list, half has to be."""
    known = set(graph)
    named = [name for name in cache.scales if not name.startswith(_UNNAMED)]
    matched = sum(name in known for name in named)
    if matched and matched >= MATCHED_MIN * min(len(named), len(known)):
        return
    strange = [name for name in named if name not in known] or list(cache.scales)
    unlisted = [name for name in graph if name not in cache.scales] or list(graph)
    raise ConfigError(
        f"{file}: is of another network: {matched} of its {len(named)} named tensors are among the "
        f"{len(known)} of the model. It lists {_examples(strange)}, the model has {_examples(unlisted)}. "
        "Give the cache that was made from this model, or calibrate from frames"
    )


def _examples(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names[:_SHOWN])) or "none"
