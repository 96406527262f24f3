"""What the measured batches hold: pictures and arrays from files, or random numbers from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from zipfile import BadZipFile

import numpy as np

from edgert.capture.picture_file import read_picture
from edgert.errors import ConfigError, FrameError
from edgert.execute.engine import EngineInfo
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec
from edgert.perf.options import InputFile, PerfOptions, Shape
from edgert.perf.target import InputShapes
from edgert.pipeline.model_plan import has_batch_axis
from edgert.prepare.options import PrepareOptions


def make_batches(
    info: EngineInfo,
    options: PerfOptions,
    shapes: InputShapes,
    optimum: Mapping[str, Shape],
    prepare: PrepareOptions,
) -> list[dict[str, Array]]:
    """Return batches with every input. Of several files each comes once before the first comes again.

    `optimum` are whole shapes for sides that nothing else settles. Without files it is one batch of
    numbers: 0 to 1 for floats, 0 to 255 for bytes, 0 or 1 for other types, which may be indices.

    Raises:
        ConfigError: a file does not fit its tensor, or sides stay open.
    """
    _check_names(info, options)
    batch = batch_size(info, options.batch)
    axis = 1 if has_batch_axis(info) else 0
    random = np.random.default_rng(options.seed)
    items: dict[str, list[Array]] = {}
    for spec in info.inputs:
        whole = shapes.narrowed.get(spec.name, spec.shape)
        item = options.shapes.get(spec.name, whole[axis:])
        files = [each for each in options.inputs if each.name == spec.name]
        if files:
            viewed = shapes.viewed.get(spec.name, item)
            items[spec.name] = list(_read_items(spec, item, viewed, files, prepare))
        else:
            closed = _closed(spec, item, optimum.get(spec.name, whole)[axis:])
            items[spec.name] = [_random(spec.dtype, closed, random) for _ in range(batch)]
    count = max((len(each) for each in items.values()), default=1)
    return [_batch(items, index * batch, batch, has_axis=bool(axis)) for index in range(-(-count // batch))]


def batch_size(info: EngineInfo, asked: int | None) -> int:
    """Return the batch size: as asked, else the engine's own, else 1. Raises ConfigError."""
    if info.batches:
        return asked or 1
    fixed = info.fixed_batch or 1
    if asked not in (None, fixed):
        raise ConfigError(f"--batch {asked}: this engine runs batches of {fixed} only")
    return fixed


def _check_names(info: EngineInfo, options: PerfOptions) -> None:
    names = {spec.name for spec in info.inputs}
    for flag, given in (("--input", (each.name for each in options.inputs)), ("--shape", options.shapes)):
        for name in given:
            if name not in names:
                raise ConfigError(f"{flag} {name}: the engine's inputs are {', '.join(sorted(names))}")
    for spec in info.inputs:
        given_shape = options.shapes.get(spec.name)
        whole = spec.shape[1 if has_batch_axis(info) else 0 :]
        if given_shape is not None and not _fits(whole, given_shape):
            raise ConfigError(f"--shape {spec.name}: found {list(given_shape)}, the engine has {list(whole)}")


def _closed(spec: TensorSpec, item: Shape, optimum: Shape) -> Shape:
    """Return the item's shape with the optimum for its open sides."""
    if -1 not in item:
        return item
    if len(optimum) == len(item) and -1 not in optimum:
        return tuple(best if side < 0 else side for side, best in zip(item, optimum, strict=True))
    sides = "x".join("?" if side < 0 else str(side) for side in item)
    raise ConfigError(
        f"Input {spec.name} is {sides}, its sides are open. Give --shape {spec.name}=3x640x640, or such"
    )


def _random(dtype: str, shape: Shape, random: np.random.Generator) -> Array:
    if np.dtype(dtype).kind == "f":
        return random.random(shape, np.float32).astype(dtype)
    return random.integers(0, 256 if dtype == "uint8" else 2, shape).astype(dtype)


def _batch(
    items: Mapping[str, Sequence[Array]], first: int, batch: int, *, has_axis: bool
) -> dict[str, Array]:
    places = range(first, first + batch)
    return {
        name: np.stack([own[place % len(own)] for place in places]) if has_axis else own[first % len(own)]
        for name, own in items.items()
    }


def _read_items(
    spec: TensorSpec, item: Shape, viewed: Shape, files: Sequence[InputFile], prepare: PrepareOptions
) -> Iterator[Array]:
    """Yield what the files hold for one input, all of one shape."""
    shape: Shape | None = None
    for file in (path for each in files for path in _listed(each.file)):
        for array in _read(spec, item, viewed, file, prepare):
            if shape not in (None, array.shape):
                raise ConfigError(f"{file}: is {list(array.shape)} for {spec.name}, others are {shape}")
            shape = array.shape
            yield array


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
    if not files:
        raise ConfigError(f"{path}: the folder has no files for --input")
    return files


def _read(
    spec: TensorSpec, item: Shape, viewed: Shape, file: Path, prepare: PrepareOptions
) -> Iterator[Array]:
    if file.suffix.lower() in (".npy", ".npz"):
        array = _read_array(spec, file)
        singles = list(array) if array.ndim == len(item) + 1 else [array]
        if array.dtype != np.dtype(spec.dtype) or not all(_fits(item, each.shape) for each in singles):
            _refuse(file, f"{array.dtype} {list(array.shape)}", spec, item)
        yield from singles
    else:
        prepared = _read_picture(spec, viewed, file, prepare)
        yield prepared if viewed == item else prepared.reshape(item)


def _read_array(spec: TensorSpec, file: Path) -> Array:
    """Return the array of a .npy, or of a .npz the one with the input's name or the only one."""
    try:
        with file.open("rb") as opened:  # given a path, NumPy would leave a damaged archive open
            loaded = np.load(opened, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                return np.asarray(loaded)
            names = loaded.files
            if spec.name not in names and len(names) != 1:
                raise ConfigError(f"{file}: has no array {spec.name!r}; it has {', '.join(names) or 'none'}")
            return np.asarray(loaded[spec.name if spec.name in names else names[0]])
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ConfigError(f"{file}: cannot be read as an array: {error}") from error


def _read_picture(spec: TensorSpec, viewed: Shape, file: Path, prepare: PrepareOptions) -> Array:
    """Return a picture as the service would prepare it."""
    from edgert.prepare.fresh import FreshPreparer  # OpenCV only for pictures

    try:
        tensor, _ = FreshPreparer(prepare, viewed, spec.dtype).prepare(read_picture(file).image_bgr)
    except FrameError as error:
        raise ConfigError(f"{file}: is no .npy or .npz, and cannot be used as a picture: {error}") from error
    return tensor


def _fits(stated: Shape, actual: Shape) -> bool:
    return len(stated) == len(actual) and all(
        own in (-1, side) for own, side in zip(stated, actual, strict=True)
    )


def _refuse(file: Path, found: str, spec: TensorSpec, item: Shape) -> NoReturn:
    raise ConfigError(f"{file}: holds {found}, input {spec.name} takes {spec.dtype} {list(item)}")
