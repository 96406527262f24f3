"""Calls that ask about the server and its models."""

from __future__ import annotations

from typing import Any

import msgspec

from edgert.errors import RequestError, UnknownModelError
from edgert.models.config_json import config_to_message
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.fill import fill, message_of
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.grpc.versions import parse_version


class ServerMetadata(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelCalls:
    """Methods by their names in the Inference Server's service."""

    def __init__(self, core: InferenceCore, server: ServerMetadata) -> None:
        self._core = core
        self._server = server

    def server_live(self, request: Any) -> Any:
        """Say that it lives."""
        return INFERENCE_MESSAGES["ServerLiveResponse"](live=True)

    def server_ready(self, request: Any) -> Any:
        """Say whether all models are ready."""
        return INFERENCE_MESSAGES["ServerReadyResponse"](ready=self._core.is_ready())

    def server_metadata(self, request: Any) -> Any:
        """Say what this server is."""
        return message_of("ServerMetadataResponse", self._server)

    def model_ready(self, request: Any) -> Any:
        """Say whether a model is ready; an unknown one is not."""
        is_ready = self._core.is_model_ready(request.name, parse_version(request.version))
        return INFERENCE_MESSAGES["ModelReadyResponse"](ready=is_ready)

    def model_metadata(self, request: Any) -> Any:
        """Say what a client has to know of a model."""
        metadata = self._core.model_metadata(request.name, parse_version(request.version))
        return message_of("ModelMetadataResponse", metadata)

    def model_config(self, request: Any) -> Any:
        """Return a model's configuration."""
        config = self._core.model_config(request.name, parse_version(request.version))
        return INFERENCE_MESSAGES["ModelConfigResponse"](config=config_to_message(config).SerializeToString())

    def model_statistics(self, request: Any) -> Any:
        """Return what one model or all have done."""
        response = INFERENCE_MESSAGES["ModelStatisticsResponse"]()
        version = parse_version(request.version)
        try:
            found = self._core.statistics(request.name, version)
        except UnknownModelError:
            which = "" if version else f" '{request.name}'"
            of = f" version is not available for model '{request.name}'" if version else " is not available"
            raise RequestError(f"requested model{which}{of}") from None
        for statistics in found:
            fill(response.model_stats.add(), statistics)
        return response
