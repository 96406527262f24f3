"""Versions as clients write them."""

from __future__ import annotations

import re

from edgert.errors import RequestError

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def parse_version(text: str) -> int:
    """Return the number; 0, the newest, for no text. Raises RequestError in the Inference Server's words."""
    if not text:
        return 0
    if not _NUMBER.fullmatch(text):
        raise RequestError(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    version = int(text)
    if version < 0:
        raise RequestError(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return version or -1  # there is no version 0
