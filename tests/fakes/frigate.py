"""Frigate's side of its ZeroMQ detector: the same messages, timeouts and reading of answers.

Like Frigate it takes whatever goes wrong for no detections, and says so in `log`.
"""

from __future__ import annotations

import json

import numpy as np
import zmq

ROWS = (20, 6)
MODEL_TIMEOUT_MS = 30_000


class FakeFrigate:
    """One detector of Frigate. `log` has what it would write as warning or error."""

    def __init__(self, endpoint, model="coco.onnx", *, timeout_ms=200, file=b"a model"):
        self.log = []
        self.is_ready = False
        self.timeouts = 0
        self._endpoint, self._model, self._file = endpoint, model, file
        self._timeout_ms = timeout_ms
        self._context = zmq.Context()
        self._connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close(0)
        self._context.term()

    def prepare(self):
        """Ask for the model, offer it if it is not there, and return whether it is ready."""
        said = self._ask_json({"model_request": True, "model_name": self._model})
        if said["model_available"] and said["model_loaded"]:
            self.is_ready = True
        elif not said["model_available"]:
            said = self._ask_json({"model_data": True, "model_name": self._model}, self._file)
            self.is_ready = said["model_saved"] and said["model_loaded"]
            if not self.is_ready:
                self.log.append(f"Model transfer failed: {said}")
        return self.is_ready

    def detect(self, tensor, **header):
        """Send a picture and return the rows; zeros if anything goes wrong."""
        try:
            self.send(tensor, **header)
            return self.receive()
        except zmq.Again:
            self.timeouts += 1
            self._socket.close(0)
            self._connect()
            return np.zeros(ROWS, np.float32)

    def send(self, tensor, **header):
        """Send a picture, without waiting."""
        said = {"shape": list(tensor.shape), "dtype": tensor.dtype.name, "model_type": "ssd"} | header
        self._socket.send_multipart([json.dumps(said).encode(), memoryview(tensor.tobytes(order="C"))])

    def receive(self):
        """Return the rows of the answer."""
        return self._decode(self._socket.recv_multipart())

    def send_raw(self, *parts):
        """Send any message and return the answer's parts."""
        self._socket.send_multipart(parts)
        return self._socket.recv_multipart()

    def _decode(self, parts):
        try:
            if len(parts) == 1:
                return np.frombuffer(parts[0], np.float32).reshape(ROWS)
            header = json.loads(parts[0])
            dtype = np.dtype(header.get("dtype", "float32"))
            return np.frombuffer(parts[1], dtype).reshape(tuple(header.get("shape", ())))
        except (ValueError, TypeError) as error:
            self.log.append(f"failed to decode response: {error}")
            return np.zeros(ROWS, np.float32)

    def _ask_json(self, header, *parts):
        self._socket.rcvtimeo = MODEL_TIMEOUT_MS
        try:
            [answer] = self.send_raw(json.dumps(header).encode(), *parts)
        finally:
            self._socket.rcvtimeo = self._timeout_ms
        return json.loads(answer)

    def _connect(self):
        self._socket = self._context.socket(zmq.REQ)
        self._socket.rcvtimeo = self._socket.sndtimeo = self._timeout_ms
        self._socket.linger = 0
        self._socket.connect(self._endpoint)
