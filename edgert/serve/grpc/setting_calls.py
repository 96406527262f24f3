"""Calls about the settings of the log and of tracing."""

from __future__ import annotations

from typing import Any

from edgert.errors import RequestError, UnknownModelError, UnsupportedError
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.grpc.parameters import plain
from edgert.serve.grpc.transport.status import forbidden
from edgert.serve.log_settings import change_log, log_settings

_OFF = "OFF"
_TRACE = {
    "trace_level": _OFF,
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
_KINDS = {
    "log_file": (str, "string"),
    "log_info": (bool, "boolean"),
    "log_warning": (bool, "boolean"),
    "log_error": (bool, "boolean"),
    "log_verbose_level": (int, "unsigned integer"),
    "log_format": (str, "string"),
}


class SettingCalls:
    """Methods by their names in the Inference Server's service. There is no tracing."""

    def __init__(self, core: InferenceCore, *, is_control_allowed: bool) -> None:
        self._core = core
        self._is_control_allowed = is_control_allowed

    def trace_setting(self, request: Any) -> Any:
        """Say that nothing is traced. Refuses to trace; other settings are of no effect."""
        if request.model_name and not self._core.is_model_ready(request.model_name):
            raise UnknownModelError(f"Request for unknown model : {request.model_name}")
        if [level for level in request.settings["trace_level"].value if level != _OFF]:
            raise UnsupportedError("tracing is not offered")
        response = INFERENCE_MESSAGES["TraceSettingResponse"]()
        for name, value in _TRACE.items():
            response.settings[name].value.append(value)
        return response

    def log_settings(self, request: Any) -> Any:
        """Change what is given, and return all."""
        if request.settings:
            if not self._is_control_allowed:
                raise forbidden()
            change_log(_log_change(request.settings))
        response = INFERENCE_MESSAGES["LogSettingsResponse"]()
        for name, value in log_settings().items():
            setting = response.settings[name]
            if isinstance(value, bool):
                setting.bool_param = value
            elif isinstance(value, int):
                setting.uint32_param = value
            else:
                setting.string_param = value
        return response


def _log_change(given: Any) -> dict[str, Any]:
    change = {name: value for name, value in plain(given).items() if name in _KINDS}
    for name, value in change.items():
        kind, words = _KINDS[name]
        if type(value) is not kind:
            raise RequestError(f"expect {words} for '{name}'")
    return change
