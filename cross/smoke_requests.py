"""Asks a service for an inference over HTTP, as clients of the Inference Server do."""

from __future__ import annotations

import http.client
import json
import math
from typing import Any

from cross.errors import CrossError

TIMEOUT_S = 60.0
_BINARY_BODY = {"Inference-Header-Content-Length": "0"}  # all of the body is the one input
_FP32_BYTES = 4


def is_ready(port: int) -> bool:
    """Say whether the models that it serves are loaded; False where nobody answers."""
    try:
        return _ask(port, "GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


def infer(port: int, model: str) -> str:
    """Send a picture without content, and return what came. Raises CrossError."""
    try:
        _, metadata = _ask(port, "GET", f"/v2/models/{model}")
        [tensor] = json.loads(metadata)["inputs"]
        body = bytes(_FP32_BYTES * math.prod(abs(side) for side in tensor["shape"]))
        status, answer = _ask(port, "POST", f"/v2/models/{model}/infer", body, _BINARY_BODY)
    except (OSError, ValueError, KeyError) as error:
        raise CrossError(f"a request over HTTP was not answered: {error!r}") from error
    if status != 200:
        raise CrossError(f"a request over HTTP was answered {status}: {answer[:500]!r}")
    return f"{len(answer)} bytes of {model} over HTTP"


def _ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, Any] | None = None
) -> tuple[int, bytes]:
    """Return status and body of an answer. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {error!r}") from error
    finally:
        connection.close()
