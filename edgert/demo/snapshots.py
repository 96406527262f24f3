"""Annotated frames: subscribes to a tap, draws what was found, writes pictures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import zmq

from edgert.demo.folders import make_writable

_PALETTE_BGR = ((60, 200, 60), (60, 120, 255), (255, 140, 60), (220, 80, 220), (60, 220, 220), (200, 200, 80))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN_PX = 3
SCORE_MIN = 0.05  # classes below are not drawn
Picture = np.ndarray[Any, np.dtype[np.uint8]]
Json = dict[str, Any]


class SnapshotWriter:
    """Writes every frame that a tap publishes as `<source>-<seq>.jpg`, on a thread of its own.

    Raises ConfigError if `folder` cannot be written into.
    """

    def __init__(self, address: str, folder: Path) -> None:
        make_writable(folder, "--snapshots")
        self.folder = folder
        self._address = address
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self.written: list[Path] = []
        self.failed = 0

    def __enter__(self) -> SnapshotWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger = 0
            socket.subscribe(b"")
            socket.connect(self._address)
            while not self._is_stopping.is_set():
                if socket.poll(100):
                    self._write(socket.recv_multipart())

    def _write(self, parts: list[bytes]) -> None:
        header = msgspec.msgpack.decode(parts[1])
        picture = np.frombuffer(parts[2], np.uint8).reshape(header["height"], header["width"], -1).copy()
        result = (
            header["result"] if isinstance(header["result"], dict) else msgspec.json.decode(header["result"])
        )
        draw(picture, result)
        path = self.folder / f"{header['source']}-{header['seq']:06d}.jpg"
        if cv2.imwrite(str(path), picture):
            self.written.append(path)
        else:
            self.failed += 1


def draw(picture_bgr: Picture, result: Json) -> None:
    """Draw detections or classes of a result into the picture."""
    for detection in result.get("detections", []):
        _draw_box(picture_bgr, detection)
    classes = [item for item in result.get("classes", [])[:3] if item["score"] >= SCORE_MIN]
    top = 0
    for item, colour in zip(classes, _PALETTE_BGR, strict=False):
        top = _label(picture_bgr, f"{item['label']} {item['score']:.2f}", (0, top), colour)


def _draw_box(picture_bgr: Picture, detection: Json) -> None:
    x0, y0, x1, y1 = (round(side) for side in detection["box_xyxy_px"])
    colour = _PALETTE_BGR[detection["class_index"] % len(_PALETTE_BGR)]
    cv2.rectangle(picture_bgr, (x0, y0), (x1, y1), colour, 2)
    for x, y in detection.get("landmarks_xy_px") or []:
        cv2.circle(picture_bgr, (round(x), round(y)), 2, colour, -1)
    _label(
        picture_bgr,
        f"{detection['label']} {detection['score']:.2f}",
        (x0 - 1, y0 - _text_size("X")[1]),
        colour,
    )


def _label(picture_bgr: Picture, text: str, at_xy: tuple[int, int], colour: tuple[int, int, int]) -> int:
    """Write text on a filled box at `at_xy`, moved so that it lies in the picture; return its lower edge."""
    height, width = map(int, picture_bgr.shape[:2])
    box_width, box_height = _text_size(text)
    left = max(0, min(at_xy[0], width - box_width))
    top = max(0, min(at_xy[1], height - box_height))
    bottom = top + box_height
    cv2.rectangle(picture_bgr, (left, top), (left + box_width - 1, bottom - 1), colour, -1)
    origin = (left + _MARGIN_PX, bottom - 2 * _MARGIN_PX)
    cv2.putText(picture_bgr, text, origin, _FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return bottom


def _text_size(text: str) -> tuple[int, int]:
    """Return width and height of a label's box."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
    return width + 2 * _MARGIN_PX, height + 3 * _MARGIN_PX
