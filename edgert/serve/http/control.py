"""The model repository: its index, load and unload."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from edgert.errors import RequestError
from edgert.serve.core import InferenceCore
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import read_json
from edgert.serve.http.message import Answer, json_answer
from edgert.serve.http.router import Route, Router

_FILE = "file:"


class _Index(msgspec.Struct):
    ready: bool = False


class _Change(msgspec.Struct):
    parameters: dict[str, Any] = {}


class ControlRoutes:
    """Model control over HTTP."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        change = "/v2/repository/models/{model}/"
        router.add(
            Route("POST", "/v2/repository/index", self.index),
            Route("POST", change + "load", self.load, where="control", is_control=True),
            Route("POST", change + "unload", self.unload, where="control", is_control=True),
        )

    def index(self, exchange: Exchange) -> None:
        """Answer what the repository has."""
        wanted = read_json(exchange.body, _Index) if exchange.body else _Index()
        exchange.reply(json_answer(self._core.index(only_ready=wanted.ready)))

    def load(self, exchange: Exchange, model: str) -> None:
        """Load a model, as its folder or as the request describes it. Blocks."""
        parameters = _parameters(exchange)
        files = {
            name.removeprefix(_FILE): _content(name, value)
            for name, value in parameters.items()
            if name.startswith(_FILE)
        }
        config = _config(parameters)
        if files and config is None:
            raise RequestError(
                f"failed to load '{model}', failed to poll from model repository: files need a 'config' too"
            )
        self._core.load(model, config, files or None)
        exchange.reply(Answer())

    def unload(self, exchange: Exchange, model: str) -> None:
        """Unload a model. Blocks."""
        self._core.unload(model, with_dependents=_with_dependents(_parameters(exchange)))
        exchange.reply(Answer())


def _parameters(exchange: Exchange) -> dict[str, Any]:
    return read_json(exchange.body, _Change).parameters if exchange.body else {}


def _with_dependents(parameters: dict[str, Any]) -> bool:
    flag = parameters.get("unload_dependents", False)
    if not isinstance(flag, bool):
        raise RequestError(
            "Unable to parse 'unload_dependents': attempt to access JSON non-boolean as boolean"
        )
    return flag


def _config(parameters: dict[str, Any]) -> str | None:
    config = parameters.get("config")
    if config is None:
        return None
    if not isinstance(config, str):
        raise RequestError("Unable to parse 'config': attempt to access JSON non-string as string")
    return config


def _content(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise RequestError(f"Unable to parse '{name}': expected the file's content in base64") from None
