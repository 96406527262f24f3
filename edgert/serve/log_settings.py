"""What the log of this process shows, in the Inference Server's words."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from edgert.errors import RequestError, UnsupportedError

_LOGGER = "edgert"
Setting = bool | int | str


def log_settings() -> dict[str, Setting]:
    """Return the settings. Less severe than the first of them that is true is left out."""
    level = logging.getLogger(_LOGGER).getEffectiveLevel()
    return {
        "log_file": "",
        "log_info": level <= logging.INFO,
        "log_warning": level <= logging.WARNING,
        "log_error": level <= logging.ERROR,
        "log_verbose_level": int(level <= logging.DEBUG),
        "log_format": "default",
    }


def change_log(change: Mapping[str, Setting]) -> None:
    """Change settings, which have the types that `log_settings` has. Raises RequestError."""
    if change.get("log_file") or change.get("log_format", "default") != "default":
        raise UnsupportedError("log_file and log_format cannot be changed while the server runs")
    logging.getLogger(_LOGGER).setLevel(_level({**log_settings(), **change}))


def _level(settings: Mapping[str, Setting]) -> int:
    levels = {
        "log_verbose_level": logging.DEBUG,
        "log_info": logging.INFO,
        "log_warning": logging.WARNING,
        "log_error": logging.ERROR,
    }
    for name, level in levels.items():
        if settings[name]:
            return level
    raise RequestError("errors are always logged")
