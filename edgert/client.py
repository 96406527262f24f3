"""Sends pictures to an edgert service and gets their results. Needs only pyzmq, msgspec and numpy.

Example:
    with Client("router+bind:tcp://127.0.0.1:5601") as client:
        result = client.infer(cv2.imread("cat.jpg"), model="classifier")
        print(result["classes"][0]["label"])
"""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import msgspec
import numpy as np
import zmq

Picture = np.ndarray[Any, Any] | bytes  # (h, w, 3) BGR or (h, w) gray, uint8; or a JPEG's or PNG's bytes

_ENDPOINT = re.compile(r"(?:(router|rep|pull|sub)\+(bind|connect):)?((?:tcp|ipc|inproc)://\S+)")
_PEERS = {"router": zmq.DEALER, "rep": zmq.DEALER, "pull": zmq.PUSH, "sub": zmq.PUB}


class RequestError(Exception):
    """The service refused a request. `status` is the error's name, e.g. `frame_error` or `busy_error`."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """The counterpart of one ZeroMQ source, for one thread at a time.

    `endpoint` is the source's uri as it stands in the pipeline file; a bare address means a router.
    Connections are made, and made again, in the background.
    """

    def __init__(self, endpoint: str, source: str = "client") -> None:
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None:
            raise ValueError(
                f"{endpoint!r}: expected e.g. router+bind:tcp://127.0.0.1:5601 or tcp://HOST:PORT"
            )
        self.endpoint = endpoint
        self._source = source
        self._numbers = itertools.count()
        self._answers = match[1] in (None, "router", "rep")
        self._context = zmq.Context()
        self._socket = self._context.socket(_PEERS[match[1] or "router"])
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # without a peer, `send` waits rather than queues
        self._socket.setsockopt(zmq.LINGER, 1000)
        attach = self._socket.bind if match[2] == "connect" else self._socket.connect
        try:
            attach(match[3])
        except zmq.ZMQError:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, picture: Picture, model: str | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
        """Send a picture and return its result (schema `edgert.result/1`).

        Raises RequestError if the service refuses, TimeoutError if it does not answer in time.
        """
        if not self._answers:
            raise ValueError(f"{self.endpoint} gives no answers; use `send`, or a router or rep endpoint")
        deadline_s = time.monotonic() + timeout_s
        number = self.send(picture, model, timeout_s)
        while self._socket.poll(max(0, round((deadline_s - time.monotonic()) * 1000))):
            header, payload = self._receive()
            if header["id"] != number:
                continue  # too late for the `infer` that asked
            if header["status"] != "ok":
                raise RequestError(header["status"], header["message"])
            result: dict[str, Any] = msgspec.json.decode(payload)
            return result
        raise TimeoutError(
            f"No answer from {self.endpoint} within {timeout_s:g} s. The picture was sent: its model is "
            "slow, or the service has stopped since."
        )

    def send(self, picture: Picture, model: str | None = None, timeout_s: float = 10.0) -> int:
        """Send a picture and return its number, not waiting for a result. Raises TimeoutError."""
        number = next(self._numbers)
        form, payload = _describe(picture)
        header = {
            "v": 1,
            "source": self._source,
            "seq": number,
            "captured_utc_ns": time.time_ns(),
            "id": number,
        }
        header |= form | ({"model": model} if model else {})
        envelope = [b""] if self._answers else []
        self._socket.sndtimeo = int(timeout_s * 1000)
        try:
            self._socket.send_multipart([*envelope, msgspec.msgpack.encode(header), payload])
        except zmq.Again:
            raise TimeoutError(
                f"Nobody took the picture at {self.endpoint} within {timeout_s:g} s: nothing listens there, "
                "or it takes no more. Does `edgert run` run with this source?"
            ) from None
        return number

    def close(self) -> None:
        """Disconnect, after at most a second for what is still to be sent."""
        self._socket.close()
        self._context.term()

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        *_, header, payload = self._socket.recv_multipart()
        return msgspec.msgpack.decode(header), payload


def _describe(picture: Picture) -> tuple[dict[str, Any], bytes | memoryview]:
    """Return the header's part about the pixels, and the payload."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
            raise ValueError(f"expected (h, w, 3) or (h, w) uint8, not {picture.shape} {picture.dtype}")
        height, width = picture.shape[:2]
        pixel_format = "bgr8" if picture.ndim == 3 else "gray8"
        form = {"format": pixel_format, "height": height, "width": width}
        return form, np.ascontiguousarray(picture).data
    if not isinstance(picture, (bytes, bytearray)):
        raise TypeError(
            f"expected an array or the bytes of a JPEG or PNG, not {type(picture).__name__} {picture!r:.80}; "
            "of a file: pathlib.Path(name).read_bytes()"
        )
    for magic, pixel_format in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png")):
        if picture.startswith(magic):
            return {"format": pixel_format}, picture
    raise ValueError(f"expected a JPEG or PNG, not {picture[:8]!r}...")
