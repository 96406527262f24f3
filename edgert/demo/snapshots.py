"""Annotated frames: subscribes to a tap, draws what was found, writes pictures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import zmq

_PALETTE_BGR = ((60, 200, 60), (60, 120, 255), (255, 140, 60), (220, 80, 220), (60, 220, 220), (200, 200, 80))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
Picture = np.ndarray[Any, np.dtype[np.uint8]]
Json = dict[str, Any]


class SnapshotWriter:
    """Writes every frame that a tap publishes as `<source>-<seq>.jpg`, on a thread of its own."""

    def __init__(self, address: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._address = address
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self.written: list[Path] = []

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
        cv2.imwrite(str(path), picture)
        self.written.append(path)


def draw(picture_bgr: Picture, result: Json) -> None:
    """Draw detections or classes of a result into the picture."""
    for detection in result.get("detections", []):
        _draw_box(picture_bgr, detection)
    for line, item in enumerate(result.get("classes", [])[:3]):
        _text(picture_bgr, f"{item['label']} {item['score']:.2f}", (6, 18 + 18 * line), _PALETTE_BGR[line])


def _draw_box(picture_bgr: Picture, detection: Json) -> None:
    x0, y0, x1, y1 = (round(side) for side in detection["box_xyxy_px"])
    colour = _PALETTE_BGR[detection["class_index"] % len(_PALETTE_BGR)]
    cv2.rectangle(picture_bgr, (x0, y0), (x1, y1), colour, 2)
    for x, y in detection.get("landmarks_xy_px") or []:
        cv2.circle(picture_bgr, (round(x), round(y)), 2, colour, -1)
    _text(picture_bgr, f"{detection['label']} {detection['score']:.2f}", (x0 + 2, max(y0 - 5, 12)), colour)


def _text(picture_bgr: Picture, text: str, at_xy: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture_bgr, text, at_xy, _FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture_bgr, text, at_xy, _FONT, 0.45, colour, 1, cv2.LINE_AA)
