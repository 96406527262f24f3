"""Completes a configuration from its engine, and checks what it states against the engine.

It is what the Inference Server does with --strict-model-config=false.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgert.models.config_checks import check_preferred
from edgert.models.config_schema import problem
from edgert.models.model_config import AUTO_MAX_BATCH_SIZE, ModelConfig, SequenceBatching, TensorConfig
from edgert.models.runtime import platform_of
from edgert.models.sequence_checks import check_sequence_tensors
from edgert.models.tensor_spec import TensorSpec

Shape = tuple[int, ...]


def complete(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    batches: bool,
    runtime: str = "",
) -> ModelConfig:
    """Return `config` with what it leaves out; the rest must fit the engine's tensors.

    Every input is listed in the result, but a sequence's controls and states only if `config` names
    them. Outputs are all of the engine's, or those that `config` names, if it names any. `batches`: the
    engine's first axes are a variable batch axis; then an unstated `max_batch_size` becomes 4, or 0 if the
    stated dims include that axis. `runtime`, if given, fills in platform and backend.

    Raises:
        ModelError: a tensor that the engine does not have, another dtype or shape, or batching that
            the engine cannot do.
    """
    max_batch_size = _max_batch_size(config, inputs, outputs, batches)
    if runtime != "python":  # a model in Python is handed whatever is stated
        check_sequence_tensors(config, inputs, outputs, max_batch_size)
    platform, backend = platform_of(runtime)
    stated = bool(config.platform or config.backend)
    completed = msgspec.structs.replace(
        config,
        platform=config.platform if stated else platform,
        backend=config.backend if stated else backend,
        max_batch_size=max_batch_size,
        inputs=_tensors(config, "input", inputs, max_batch_size),
        outputs=_tensors(config, "output", outputs, max_batch_size),
    )
    check_preferred(completed, lambda _: config.file)
    return completed


def _max_batch_size(
    config: ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batches: bool
) -> int:
    stated = config.max_batch_size
    if stated is None:
        return AUTO_MAX_BATCH_SIZE if batches and not _covers_batch(config, [*inputs, *outputs]) else 0
    # An engine built for exactly one frame may be described either way.
    holds_one = all(spec.shape[:1] == (1,) for spec in inputs)
    if stated > 0 and not batches and not (stated == 1 and holds_one):
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise problem(
            config.file,
            "max_batch_size",
            f"found {stated}, expected 0: the engine has no variable batch axis ({shapes})",
        )
    return stated


def _covers_batch(config: ModelConfig, specs: Sequence[TensorSpec]) -> bool:
    """Tell whether all stated dims are as long as the engine's whole shapes."""
    ranks = {spec.name: len(spec.shape) for spec in specs}
    stated = [tensor for tensor in (*config.inputs, *config.outputs) if tensor.dims]
    return bool(stated) and all(len(tensor.engine_dims) == ranks.get(tensor.name) for tensor in stated)


def _tensors(
    config: ModelConfig, kind: str, specs: Sequence[TensorSpec], max_batch_size: int
) -> tuple[TensorConfig, ...]:
    stated = config.inputs if kind == "input" else config.outputs
    by_name = {spec.name: spec for spec in specs}
    completed = []
    for index, tensor in enumerate(stated):
        path = f"{kind}[{index}]"
        if tensor.name not in by_name:
            raise problem(
                config.file,
                f"{path}.name",
                f"found {tensor.name!r}, expected one of the engine's: {', '.join(by_name) or 'none'}",
            )
        completed.append(_tensor(config, path, tensor, by_name.pop(tensor.name), max_batch_size))
    if kind == "input" or not stated:
        hidden = _hidden(config)
        completed += [
            TensorConfig(name=spec.name, dtype=spec.dtype, dims=_unbatched(spec, max_batch_size))
            for spec in by_name.values()
            if (kind, spec.name) not in hidden
        ]
    return tuple(completed)


def _hidden(config: ModelConfig) -> set[tuple[str, str]]:
    """Return the tensors that clients neither send nor get, unless they are listed: a sequence's own."""
    batching = config.sequence_batching or SequenceBatching()
    controls = {("input", told.name) for told in batching.controls}
    taken = {("input", state.input_name) for state in batching.states}
    return controls | taken | {("output", state.output_name) for state in batching.states}


def _tensor(
    config: ModelConfig, path: str, tensor: TensorConfig, spec: TensorSpec, max_batch_size: int
) -> TensorConfig:
    if tensor.dtype not in ("", spec.dtype):
        raise problem(
            config.file, f"{path}.data_type", f"found {tensor.dtype}, expected {spec.dtype} as the engine has"
        )
    actual = spec.shape if tensor.is_shape_tensor else _unbatched(spec, max_batch_size)
    if not tensor.dims:
        return msgspec.structs.replace(tensor, dtype=spec.dtype, dims=actual)
    if not _fits(tensor.engine_dims, actual):
        field = "dims" if tensor.reshape is None else "reshape.shape"
        raise problem(
            config.file,
            f"{path}.{field}",
            f"found {list(tensor.engine_dims)}, expected {list(actual)} as the engine's {spec.name!r} has "
            f"(max_batch_size is {max_batch_size})",
        )
    dims = tensor.dims if tensor.reshape is not None else _narrowed(tensor.dims, actual)
    return msgspec.structs.replace(tensor, dtype=spec.dtype, dims=dims)


def _unbatched(spec: TensorSpec, max_batch_size: int) -> Shape:
    return spec.shape[1:] if max_batch_size else spec.shape


def _fits(stated: Shape, actual: Shape) -> bool:
    sides = zip(stated, actual, strict=False)
    return len(stated) == len(actual) and all(a == b or -1 in (a, b) for a, b in sides)


def _narrowed(stated: Shape, actual: Shape) -> Shape:
    """Return the known side of each pair."""
    return tuple(b if a == -1 else a for a, b in zip(stated, actual, strict=True))
