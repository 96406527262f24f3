"""What a TensorRT engine says of itself: tensors, profiles, memory, layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgert.errors import ModelError
from edgert.execute.engine import EngineDetails, EngineInfo, LayerInfo, ProfileRange
from edgert.execute.tensorrt_bindings import Bindings
from edgert.models.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from edgert.execute.tensorrt_engine import TensorRTParts

Profile = Mapping[str, ProfileRange]


def read_info(file: Path, bindings: Bindings, engine: Any) -> EngineInfo:
    """Return the engine's tensors. Raises ModelError if edgert cannot feed one."""
    mode = bindings.module.TensorIOMode
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    specs = {name: _spec(file, bindings, engine, name) for name in names}
    inputs = [specs[name] for name in names if engine.get_tensor_mode(name) == mode.INPUT]
    outputs = [specs[name] for name in names if engine.get_tensor_mode(name) == mode.OUTPUT]
    if inputs and all(spec.shape[:1] == (-1,) for spec in inputs):
        outputs = [_with_open_batch(engine, inputs[0], spec) for spec in outputs]
    batches = all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))
    return EngineInfo(bindings.runtime, tuple(inputs), tuple(outputs), batches)


def read_profiles(engine: Any, info: EngineInfo) -> tuple[Profile, ...]:
    """Return the ranges of every profile, by input."""
    return tuple(
        {spec.name: _range(engine, spec, index) for spec in info.inputs}
        for index in range(max(engine.num_optimization_profiles, 1))
    )


def read_details(parts: TensorRTParts, profiles: Sequence[Profile]) -> EngineDetails:
    """Return memory, profiles and layers."""
    engine = parts.engine
    held = parts.memory.held_bytes
    return EngineDetails(
        weights_bytes=held,
        scratch_bytes=parts.bindings.scratch_bytes(engine),
        profiles=tuple(profiles),
        layers=_layers(parts.bindings, engine),
        auxiliary_streams=int(engine.num_aux_streams),
        is_refittable=bool(engine.refittable),
    )


def _spec(file: Path, bindings: Bindings, engine: Any, name: str) -> TensorSpec:
    try:
        dtype = np.dtype(bindings.module.nptype(engine.get_tensor_dtype(name))).name
    except TypeError as error:
        raise ModelError(
            f"{file}: tensor {name} has type {engine.get_tensor_dtype(name)}, which edgert cannot feed."
        ) from error
    if engine.is_shape_inference_io(name):
        raise ModelError(f"{file}: tensor {name} is a shape, not pixels; edgert fills pictures only.")
    return TensorSpec(name, dtype, tuple(engine.get_tensor_shape(name)))


def _with_open_batch(engine: Any, batched: TensorSpec, output: TensorSpec) -> TensorSpec:
    """Return an output whose batch axis is that of the first profile, where this allows one size only."""
    smallest, _, largest = engine.get_tensor_profile_shape(batched.name, 0)
    if output.shape[:1] == (smallest[0],) == (largest[0],):
        return TensorSpec(output.name, output.dtype, (-1, *output.shape[1:]))
    return output


def _range(engine: Any, spec: TensorSpec, profile: int) -> ProfileRange:
    if min(spec.shape, default=0) >= 0:
        return ProfileRange(spec.shape, spec.shape, spec.shape)
    return ProfileRange(*(tuple(shape) for shape in engine.get_tensor_profile_shape(spec.name, profile)))


def _layers(bindings: Bindings, engine: Any) -> tuple[LayerInfo, ...]:
    """Return the layers; none where the runtime has no inspector, names only where it was built so."""
    if not bindings.has_engine_inspector:
        return ()
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(bindings.module.LayerInformationFormat.JSON)
    return tuple(map(_layer, json.loads(text or "{}").get("Layers", ())))


def _layer(told: Any) -> LayerInfo:
    if isinstance(told, str):
        return LayerInfo(told)
    outputs = told.get("Outputs") or [{}]
    return LayerInfo(
        str(told.get("Name", "")),
        str(told.get("LayerType", "")),
        str(told.get("TacticName", "")),
        str(outputs[0].get("Format/Datatype", "")),
    )
