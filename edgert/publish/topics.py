"""The topic tree. Everything stands below `<root>/<node>/`; the functions return what follows that.

- `state`, retained: init ready draining disconnected; the will: lost
- `birth`, retained
- `stats`
- `source/<source>/state`, retained
- `source/<source>/result/<model>`
- `source/<source>/snapshot`, retained: a JPEG
- `model/<model>/state`, retained
- `cmd/<verb>`, and `cmd/<verb>/answer` for who cannot say where it wants the answer
"""

from __future__ import annotations

import unicodedata

from edgert.errors import ConfigError

STATE = "state"
BIRTH = "birth"
STATS = "stats"

MAX_NAME_BYTES = 128  # five names and the words between them stay far below MQTT's 65,535
FORBIDDEN = "+#/"


def prefix(root: str, node: str) -> str:
    """Return `<root>/<node>/`. The root may have several levels. Raises ConfigError."""
    levels = [check_name(level, "topic root") for level in root.split("/")]
    return "/".join([*levels, check_name(node, "node"), ""])


def source_state(source: str) -> str:
    """Return where a source's state is retained."""
    return f"source/{source}/state"


def model_state(model: str) -> str:
    """Return where a model's state is retained."""
    return f"model/{model}/state"


def result(source: str, model: str) -> str:
    """Return where the results of a model for a source go."""
    return f"source/{source}/result/{model}"


def snapshot(source: str) -> str:
    """Return where the pictures of a source are retained."""
    return f"source/{source}/snapshot"


def command(verb: str) -> str:
    """Return where a command is listened for."""
    return f"cmd/{verb}"


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it can be one level of a topic. `what` is said in the error. Raises ConfigError."""
    fault = _fault(name)
    if fault:
        raise ConfigError(
            f"{what} {name!r} {fault}. Allowed are 1 to {MAX_NAME_BYTES} bytes of UTF-8 text without "
            "'+', '#', '/', control characters, a leading '$', or space at either end."
        )
    return name


def _fault(name: str) -> str | None:
    if not name:
        return "is empty"
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "is not text"
    if size_bytes > MAX_NAME_BYTES:
        return f"has {size_bytes} bytes"
    bad = next((c for c in name if c in FORBIDDEN or unicodedata.category(c) == "Cc"), None)
    if bad:
        return f"contains {bad!r}"
    if name.startswith("$"):
        return "begins with '$'"
    return "begins or ends with space" if name != name.strip() else None
