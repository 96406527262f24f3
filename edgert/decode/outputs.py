"""Finds a decoder's outputs among the engine's and checks that they have the shape it reads."""

from __future__ import annotations

from collections.abc import Mapping

from edgert.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]  # of each output by name, without the batch axis; -1 is open


def only_output(shapes: Shapes, name: str | None) -> str:
    """Return `name`, or the engine's one output if no name is given. Raises ModelError."""
    if name is not None:
        return _existing(shapes, name)
    if len(shapes) != 1:
        raise ModelError(
            f"The engine has {len(shapes)} outputs ({', '.join(shapes)}). Set output in [decode]."
        )
    return next(iter(shapes))


def expect_shape(shapes: Shapes, name: str, axes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of output `name`, whose axes have these names and sizes, -1 for any.

    Raises:
        ModelError: there is no such output, or it has another shape.
    """
    shape = shapes[_existing(shapes, name)]
    wanted = tuple(axes.values())
    fits = len(shape) == len(wanted) and all(
        -1 in (side, want) or side == want for side, want in zip(shape, wanted, strict=True)
    )
    if not fits:
        words = ", ".join(axis if size == -1 else f"{axis} {size}" for axis, size in axes.items())
        raise ModelError(f"Output {name!r} is {shape} without its batch axis; expected ({words}).")
    return shape


def _existing(shapes: Shapes, name: str) -> str:
    if name not in shapes:
        raise ModelError(f"The engine has no output {name!r} as [decode] says; it has {', '.join(shapes)}.")
    return name
