"""Settings of the log and of tracing."""

from __future__ import annotations

import msgspec

from edgert.errors import UnsupportedError
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import Natural, read_json
from edgert.serve.http.message import json_answer
from edgert.serve.http.router import Route, Router
from edgert.serve.log_settings import change_log, log_settings

_TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


class _LogChange(msgspec.Struct):
    log_file: str | None = None
    log_info: bool | None = None
    log_warning: bool | None = None
    log_error: bool | None = None
    log_verbose_level: Natural | None = None
    log_format: str | None = None


class _TraceChange(msgspec.Struct):
    trace_level: list[str] = []


class SettingRoutes:
    """The log's level may be changed; there is no tracing."""

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        router.add(
            Route("GET", "/v2/logging", self.show_log),
            Route("POST", "/v2/logging", self.change_log, is_control=True),
        )
        for path in ("/v2/trace/setting", "/v2/models/{model}/trace/setting"):
            router.add(
                Route("GET", path, self.show_trace), Route("POST", path, self.change_trace, is_control=True)
            )

    def show_log(self, exchange: Exchange) -> None:
        """Answer what the log shows."""
        exchange.reply(json_answer(log_settings()))

    def change_log(self, exchange: Exchange) -> None:
        """Change what the log shows."""
        change = read_json(exchange.body, _LogChange)
        given = msgspec.structs.asdict(change)
        change_log({name: value for name, value in given.items() if value is not None})
        self.show_log(exchange)

    def show_trace(self, exchange: Exchange, model: str = "") -> None:
        """Answer that nothing is traced."""
        exchange.reply(json_answer(_TRACE))

    def change_trace(self, exchange: Exchange, model: str = "") -> None:
        """Refuse to trace; other settings are of no effect."""
        if [level for level in read_json(exchange.body, _TraceChange).trace_level if level != "OFF"]:
            raise UnsupportedError("tracing is not offered")
        self.show_trace(exchange)
