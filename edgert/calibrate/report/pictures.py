"""Pictures of the frames that changed most: FP32's answer beside INT8's, drawn over one JPEG."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec
import numpy as np

from edgert.calibrate.compare.changed import ChangedFrame
from edgert.calibrate.compare.metrics import IOU_MIN
from edgert.calibrate.report.thumbnail import MAX_SIDE_PX
from edgert.capture.picture_file import read_frame
from edgert.frames.matching import match_detections
from edgert.frames.result import Array, Classes, Detections, label_of

_LABEL_CHARACTERS = 40


class ChangedPicture(msgspec.Struct, frozen=True, eq=False):
    """A frame with its thumbnail."""

    frame: ChangedFrame
    jpeg: bytes


def pictures_of(work: Path, frames: Sequence[ChangedFrame]) -> Iterator[ChangedPicture]:
    """Yield the frames with what is shown of them. Raises FrameError if one cannot be read any more."""
    from edgert.calibrate.report.thumbnail import thumbnail_jpeg  # OpenCV only where pictures are drawn

    for frame in frames:
        image, pixel_format = read_frame(work / frame.file)
        yield ChangedPicture(frame, thumbnail_jpeg(image, pixel_format))


def picture_html(picture: ChangedPicture, number: int) -> Iterator[str]:
    """Yield one figure; the JPEG stands in it once, under an id of this number."""
    frame = picture.frame
    image_id = f"frame{number}"
    first = _image(picture, image_id)
    again = f'<use href="#{image_id}"/>'
    alone = _alone(frame.reference, frame.candidate)
    yield '<figure class="pair"><div class="sides">'
    for title, image, output, marked in (
        ("FP32", first, frame.reference, alone[0]),
        ("INT8", again, frame.candidate, alone[1]),
    ):
        width, height = _size(frame)
        yield f"<div><p>{title}</p>"
        yield f'<svg class="picture" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{title}">'
        yield image
        yield from _boxes(output, frame, marked)
        yield "</svg>"
        yield from _classes(output)
        yield "</div>"
    yield f"</div><figcaption>{escape(frame.file)}: difference {frame.difference:.3f}</figcaption></figure>"


def _size(frame: ChangedFrame) -> tuple[float, float]:
    """Return the drawing's sides; the longer one is as long as a thumbnail's, so that texts are as large."""
    scale = MAX_SIDE_PX / max(frame.width, frame.height)
    return round(frame.width * scale, 1), round(frame.height * scale, 1)


def _image(picture: ChangedPicture, image_id: str) -> str:
    width, height = _size(picture.frame)
    data = base64.b64encode(picture.jpeg).decode("ascii")
    return (
        f'<image id="{image_id}" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{data}"/>'
    )


def _alone(reference: object, candidate: object) -> tuple[set[int], set[int]]:
    """Return the indices of the detections that the other side has not."""
    if not isinstance(reference, Detections) or not isinstance(candidate, Detections):
        return set(), set()
    pairs = match_detections(reference, candidate, IOU_MIN)
    return (
        {*range(len(reference.scores))} - {one for one, _ in pairs},
        {*range(len(candidate.scores))} - {other for _, other in pairs},
    )


def _boxes(output: Detections | Classes | None, frame: ChangedFrame, alone: set[int]) -> Iterator[str]:
    if not isinstance(output, Detections):
        return
    size = np.array(_size(frame))
    scale = np.tile(size / (frame.width, frame.height), 2)
    boxes = output.boxes_xyxy_px.astype(np.float64) * scale
    for index, box in enumerate(boxes):
        if np.isfinite(box).all():
            text = _text(output, index)
            yield _box(box.clip(0, np.tile(size, 2)), text, "alone" if index in alone else "both")


def _box(box_xyxy: Array, text: str, name: str) -> str:
    x, y, last_x, last_y = box_xyxy.tolist()
    return (
        f'<g class="{name}"><rect x="{x:.1f}" y="{y:.1f}" width="{max(last_x - x, 0):.1f}" '
        f'height="{max(last_y - y, 0):.1f}"/>'
        f'<text x="{x + 3:.1f}" y="{max(y - 4, 13):.1f}">{escape(text)}</text></g>'
    )


def _classes(output: Detections | Classes | None) -> Iterator[str]:
    if isinstance(output, Classes):
        rows = (f"<li>{escape(_text(output, index))}</li>" for index in range(min(5, len(output.scores))))
        yield f"<ol>{''.join(rows)}</ol>"


def _text(output: Detections | Classes, index: int) -> str:
    label = label_of(output.labels, int(output.class_indices[index]))
    return f"{label[:_LABEL_CHARACTERS]} {float(output.scores[index]):.2f}"
