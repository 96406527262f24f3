"""What is really in the held-out frames, from a file that a person can write, found by the frames' names.

Classes: CSV with the header `file,label`, a label by name or index. Boxes: JSON in COCO's annotation form
(cocodataset.org, Data format: object detection), of which `images`, `annotations` and `categories` are read.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Generic, TypeVar

import msgspec
import numpy as np

from edgert.errors import ConfigError
from edgert.frames.result import Array

MAX_LABEL_BYTES = 256 << 20
_HEADER = ["file", "label"]

Truth = TypeVar("Truth")
Side = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Corner = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class TrueBoxes(msgspec.Struct, frozen=True, eq=False):
    """The n objects of one frame."""

    boxes_xyxy_px: Array  # (n, 4) float64
    class_indices: Array  # (n,) int64
    is_crowd: Array  # (n,) bool: a group that nobody has to find and that may be found often


class Labelled(msgspec.Struct, Generic[Truth], frozen=True):
    """The truth of those frames that have one."""

    truths: Mapping[str, Truth]  # by the frames' names as they were asked for
    unlabelled: int  # frames without


class _Image(msgspec.Struct, frozen=True):
    id: int
    file_name: str


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    bbox: tuple[Corner, Corner, Side, Side]  # x, y, width, height in pixels
    iscrowd: bool | int = False


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_class_labels(path: Path, labels: Sequence[str]) -> dict[str, int]:
    """Return the class of each file in a CSV. `labels` are the model's, by class index; empty: indices only.

    Raises:
        ConfigError: with the line that is wrong.
    """
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    known = _known(labels)
    classes: dict[str, int] = {}
    try:
        header = [cell.strip() for cell in next(rows, [])]
        if header != _HEADER:
            raise ConfigError(f"{path}:1: the header is {','.join(header)!r}, expected 'file,label'")
        for row in rows:
            if row:
                file, class_index = _class_of(row, known, f"{path}:{rows.line_num}")
                if classes.setdefault(file, class_index) != class_index:
                    raise ConfigError(f"{path}:{rows.line_num}: {file!r} has another label further up")
    except csv.Error as error:
        raise ConfigError(f"{path}:{rows.line_num}: not valid CSV: {error}") from error
    return classes


def read_box_labels(path: Path, labels: Sequence[str]) -> dict[str, TrueBoxes]:
    """Return the boxes of each file in COCO's JSON; a category is the model's label of that name.

    A file without annotations has no boxes, which is a truth too. `labels` empty: names are class indices.

    Raises:
        ConfigError: with the field that is wrong.
    """
    coco = _read_coco(path)
    known = _known(labels)
    found: dict[int, list[tuple[_Annotation, int]]] = {image.id: [] for image in coco.images}
    names = {category.id: category.name for category in coco.categories}
    for index, annotation in enumerate(coco.annotations):
        where = f"{path}: annotations[{index}]"
        if annotation.image_id not in found:
            raise ConfigError(f"{where}.image_id = {annotation.image_id}: no such image")
        if annotation.category_id not in names:
            raise ConfigError(f"{where}.category_id = {annotation.category_id}: no such category")
        class_index = _class_index(names[annotation.category_id], known, f"{where}: category")
        found[annotation.image_id].append((annotation, class_index))
    return {image.file_name: _boxes(found[image.id]) for image in coco.images}


def labelled(files: Iterable[str], truths: Mapping[str, Truth]) -> Labelled[Truth]:
    """Return the truth of each file that has one.

    Of several names in the label file that end a frame's path the longest holds: `a/1.jpg` before `1.jpg`.
    """
    known = {PurePath(name).parts: truth for name, truth in truths.items()}
    found, unlabelled = {}, 0
    for file in files:
        parts = PurePath(file).parts
        ends = (parts[start:] for start in range(len(parts)))
        match = next((end for end in ends if end in known), None)
        if match is None:
            unlabelled += 1
        else:
            found[file] = known[match]
    return Labelled(found, unlabelled)


def _class_of(row: Sequence[str], known: Mapping[str, int], where: str) -> tuple[str, int]:
    cells = [cell.strip() for cell in row]
    if len(cells) != len(_HEADER) or not all(cells):
        raise ConfigError(f"{where}: {','.join(row)!r}, expected a file and its label")
    return cells[0], _class_index(cells[1], known, f"{where}: label")


def _class_index(name: str, known: Mapping[str, int], where: str) -> int:
    """Return the index of a label; a number that is no label is an index itself."""
    if name in known:
        return known[name]
    if name.isdecimal() and (not known or int(name) <= max(known.values())):
        return int(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {len(known)} labels or an index"
    raise ConfigError(f"{where} {name!r} is no label of the model; {hint}")


def _known(labels: Sequence[str]) -> dict[str, int]:
    """Return the index of each label, the first where one stands twice."""
    return {label: index for index, label in reversed([*enumerate(labels)])}


def _read_coco(path: Path) -> _Coco:
    try:
        coco = msgspec.json.decode(_read_text(path), type=_Coco)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_told(error)}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    _refuse_twice(f"{path}: images", "id", [image.id for image in coco.images])
    _refuse_twice(f"{path}: images", "file_name", [image.file_name for image in coco.images])
    _refuse_twice(f"{path}: categories", "id", [category.id for category in coco.categories])
    return coco


def _refuse_twice(where: str, field: str, values: Sequence[object]) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise ConfigError(f"{where}[{index}].{field} = {value!r} stands twice")
        seen.add(value)


def _boxes(annotations: Sequence[tuple[_Annotation, int]]) -> TrueBoxes:
    boxes = np.array([annotation.bbox for annotation, _ in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([class_index for _, class_index in annotations], np.int64)
    crowds = np.array([bool(annotation.iscrowd) for annotation, _ in annotations], bool)
    return TrueBoxes(boxes, classes, crowds)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LABEL_BYTES + 1)
        if len(content) > MAX_LABEL_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_LABEL_BYTES} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not text in UTF-8: {error.reason}") from None


def _told(error: msgspec.ValidationError) -> str:
    """Return msgspec's message with the field in front."""
    text, _, where = str(error).partition(" - at `$")
    field = where.rstrip("`").lstrip(".") or "the file"
    return f"{field}: {text[0].lower()}{text[1:]}"
