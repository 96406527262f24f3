"""What the server and its models are and have done."""

from __future__ import annotations

from typing import Any

import msgspec

import edgert
from edgert.errors import RequestError, UnknownModelError
from edgert.models.config_json import config_to_json
from edgert.serve.core import SERVER_EXTENSIONS, InferenceCore, ModelStatistics
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import TEXT, Answer, json_answer
from edgert.serve.http.router import Route, Router

# Statistics that only metrics show.
_OWN = {"failures", "pending", "sequences", "quantiles_ns", "first_response_ms"}


class DescribeRoutes:
    """Health, metadata, configuration and statistics."""

    def __init__(self, core: InferenceCore, *, has_shared_memory: bool) -> None:
        self._core = core
        self._extensions = (*SERVER_EXTENSIONS, *(("system_shared_memory",) if has_shared_memory else ()))

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        router.add(
            Route("GET", "/v2", self.server),
            Route("GET", "/v2/health/live", self.live),
            Route("GET", "/v2/health/ready", self.ready),
            Route("GET", "/v2/models/stats", self.statistics),
        )
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            router.add(
                Route("GET", model, self.metadata),
                Route("GET", f"{model}/ready", self.model_ready),
                Route("GET", f"{model}/config", self.config),
                Route("GET", f"{model}/stats", self.statistics),
            )

    def server(self, exchange: Exchange) -> None:
        """Answer what this server is."""
        exchange.reply(
            json_answer({"name": "edgert", "version": edgert.__version__, "extensions": self._extensions})
        )

    def live(self, exchange: Exchange) -> None:
        """Answer that it lives."""
        exchange.reply(Answer(content_type=TEXT))

    def ready(self, exchange: Exchange) -> None:
        """Answer whether all models are ready."""
        exchange.reply(Answer(200 if self._core.is_ready() else 400, content_type=TEXT))

    def model_ready(self, exchange: Exchange, model: str, version: int = 0) -> None:
        """Answer whether a model is ready."""
        if not self._core.is_model_ready(model, version):
            raise RequestError("Model version not ready")
        exchange.reply(Answer(content_type=TEXT))

    def metadata(self, exchange: Exchange, model: str, version: int = 0) -> None:
        """Answer what a client has to know of a model."""
        exchange.reply(json_answer(self._core.model_metadata(model, version)))

    def config(self, exchange: Exchange, model: str, version: int = 0) -> None:
        """Answer a model's configuration."""
        exchange.reply(json_answer(config_to_json(self._core.model_config(model, version))))

    def statistics(self, exchange: Exchange, model: str = "", version: int = 0) -> None:
        """Answer what one model or all have done."""
        try:
            found = self._core.statistics(model, version)
        except UnknownModelError:
            raise RequestError(f"requested model '{model}' is not available") from None
        exchange.reply(json_answer({"model_stats": [_statistics_tree(of_one) for of_one in found]}))


def _statistics_tree(statistics: ModelStatistics) -> dict[str, Any]:
    tree = msgspec.to_builtins(statistics)
    return {name: value for name, value in tree.items() if name not in _OWN} | {"memory_usage": []}
