"""Which input shapes an engine takes: its optimization profiles."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgert.errors import ConfigError
from edgert.models.manifest import ShapeRange
from edgert.models.tensor_spec import TensorSpec

Profile = dict[str, ShapeRange]  # of each variable input, by its name
Shape = tuple[int, ...]

_SIDES = re.compile(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8})*")


def parse_profile(text: str) -> Profile:
    """Read `name=1x3x8x8:4x3x8x8:8x3x8x8`, smallest, best and largest shape; several inputs with commas.

    One shape instead of three is all three. Raises ConfigError.
    """
    profile: Profile = {}
    for part in text.split(","):
        name, _, shapes = part.rpartition("=")
        sides = [_parse_shape(shape, part) for shape in shapes.split(":")]
        if not name or len(sides) not in (1, 3) or name in profile:
            raise ConfigError(
                f"--shapes {part}: expected NAME=MIN:OPT:MAX or NAME=SHAPE, each name once, "
                "e.g. images=1x3x300x300:4x3x300x300:8x3x300x300"
            )
        profile[name] = ShapeRange(sides[0], sides[len(sides) // 2], sides[-1])
    return profile


def profiles_for(
    inputs: Sequence[TensorSpec], shapes: Sequence[Profile], batches: Sequence[int], default_batch: int
) -> tuple[Profile, ...]:
    """Return a profile for each of `shapes` or `batches`, smallest first; none for an engine without choice.

    The profile of a batch size takes any batch up to it and is best at it. Raises ConfigError for what does
    not fit the inputs.
    """
    variable = [spec for spec in inputs if -1 in spec.shape]
    if not variable:
        _check_static(inputs, shapes, batches)
        return ()
    if shapes:
        return tuple(_checked(profile, inputs, variable) for profile in shapes)
    for spec in variable:
        if spec.shape[0] != -1 or -1 in spec.shape[1:]:
            raise ConfigError(
                f"Input {spec.name!r} is {_text(spec.shape)}: more than its batch axis is variable. "
                f"Give --shapes {spec.name}=MIN:OPT:MAX"
            )
    return tuple(_batch_profile(variable, size) for size in sorted(batches or (default_batch,)))


def fixed_shapes(inputs: Sequence[TensorSpec], batch: int) -> dict[str, Shape]:
    """Return the inputs' shapes for batches of one size. Raises ConfigError if they cannot have it."""
    for spec in inputs:
        if -1 in spec.shape[1:] or not spec.shape or spec.shape[0] not in (-1, batch):
            raise ConfigError(
                f"Input {spec.name!r} is {_text(spec.shape)}: expected a variable batch axis, and only that, "
                f"for an engine of batch {batch}"
            )
    return {spec.name: spec.with_batch(batch) for spec in inputs}


def largest_batch(inputs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> int:
    """Return the largest first side that every input may have; 0 without a variable first axis."""
    first = [spec.name for spec in inputs if spec.shape[:1] == (-1,)]
    if len(first) != len(inputs):
        return 0
    return max((min(profile[name].maximum[0] for name in first) for profile in profiles), default=0)


def calibration_inputs(inputs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> tuple[TensorSpec, ...]:
    """Return the inputs as TensorRT calibrates: those that vary with the best shape of the first profile."""
    best = {name: shapes.optimum for profile in profiles[:1] for name, shapes in profile.items()}
    return tuple(TensorSpec(spec.name, spec.dtype, best.get(spec.name, spec.shape)) for spec in inputs)


def check_single(profiles: Sequence[Profile]) -> None:
    """Raise ConfigError if an input may have more than one shape: the DLA takes no other engines."""
    shapes = [shapes for profile in profiles for shapes in profile.values()]
    if len(profiles) > 1 or any(each.minimum != each.maximum for each in shapes):
        raise ConfigError(
            "--dla-core: the DLA takes inputs of one shape only. Give --engine-per-batch with --batch, or "
            "one --shapes NAME=SHAPE"
        )


def _parse_shape(text: str, part: str) -> Shape:
    if not _SIDES.fullmatch(text):
        raise ConfigError(f"--shapes {part}: {text!r} is no shape, expected one such as 1x3x300x300")
    return tuple(map(int, text.split("x")))


def _check_static(inputs: Sequence[TensorSpec], shapes: Sequence[Profile], batches: Sequence[int]) -> None:
    sizes = {spec.shape[0] for spec in inputs if spec.shape}
    if shapes or (batches and set(batches) != sizes):
        listed = ", ".join(f"{spec.name} {_text(spec.shape)}" for spec in inputs)
        raise ConfigError(
            f"{'--shapes' if shapes else '--batch'}: the model's inputs are fixed ({listed}). "
            "Export it with a variable batch axis, or leave the option out"
        )


def _batch_profile(variable: Sequence[TensorSpec], size: int) -> Profile:
    return {
        spec.name: ShapeRange(spec.with_batch(1), spec.with_batch(size), spec.with_batch(size))
        for spec in variable
    }


def _checked(profile: Profile, inputs: Sequence[TensorSpec], variable: Sequence[TensorSpec]) -> Profile:
    known = {spec.name: spec for spec in inputs}
    if unknown := sorted(set(profile) - set(known)):
        raise ConfigError(f"--shapes: the model has no input {unknown[0]!r}, it has {', '.join(known)}")
    if missing := [spec.name for spec in variable if spec.name not in profile]:
        raise ConfigError(
            f"--shapes: input {missing[0]!r} is variable too; give its shapes in the same option"
        )
    for name, shape_range in profile.items():
        _check_range(name, known[name].shape, shape_range)
    return {spec.name: profile[spec.name] for spec in variable}


def _check_range(name: str, own: Shape, given: ShapeRange) -> None:
    shapes = (given.minimum, given.optimum, given.maximum)
    for shape in shapes:
        if len(shape) != len(own) or any(a not in (-1, b) for a, b in zip(own, shape, strict=True)):
            raise ConfigError(f"--shapes: input {name!r} is {_text(own)}, {_text(shape)} does not fit it")
    if any(not low <= best <= high for low, best, high in zip(*shapes, strict=True)):
        raise ConfigError(
            f"--shapes: input {name!r}: {':'.join(map(_text, shapes))}: expected no side smaller than in the "
            "shape before it"
        )


def _text(shape: Shape) -> str:
    return "x".join("?" if side < 0 else str(side) for side in shape)
