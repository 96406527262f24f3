"""grpc.health.v1: the server under its own name, and each model under the model's."""

from __future__ import annotations

import asyncio
from typing import Any

from edgert.errors import UnknownModelError
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.calls import parse_short
from edgert.serve.grpc.messages import HEALTH_MESSAGES
from edgert.serve.grpc.schema import ENUMS
from edgert.serve.grpc.transport.rpc import Rpc

SERVER_NAMES = ("", "inference.GRPCInferenceService", "grpc.health.v1.Health")
WATCH_S = 1.0  # how often a watched status is looked at
_NUMBERS = {name: number for number, name in enumerate(ENUMS["HealthCheckResponse.ServingStatus"])}
_UNKNOWN = "SERVICE_UNKNOWN"


class HealthCalls:
    """Check and Watch."""

    def __init__(self, core: InferenceCore, watch_s: float = WATCH_S) -> None:
        self._core = core
        self._watch_s = watch_s

    def check(self, request: Any) -> Any:
        """Return the status of the server or of a model. Raises UnknownModelError."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise UnknownModelError(f"unknown service '{request.service}'")
        return _response(status)

    async def watch(self, rpc: Rpc) -> None:
        """Send the status, and again whenever it has changed, until the client leaves."""
        service = parse_short(HEALTH_MESSAGES["HealthCheckRequest"], await rpc.read() or b"").service
        sent = ""
        while True:
            status = self._status(service)
            if status != sent:
                await rpc.write(_response(status).SerializeToString())
                sent = status
            await asyncio.sleep(self._watch_s)

    def _status(self, service: str) -> str:
        if service in SERVER_NAMES:
            return "SERVING" if self._core.is_ready() else "NOT_SERVING"
        if self._core.is_model_ready(service):
            return "SERVING"
        is_known = any(entry.name == service for entry in self._core.index())
        return "NOT_SERVING" if is_known else _UNKNOWN


def _response(status: str) -> Any:
    return HEALTH_MESSAGES["HealthCheckResponse"](status=_NUMBERS[status])
