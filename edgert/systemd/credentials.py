"""Secrets that systemd reads as root and gives to one instance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from edgert.errors import ConfigError
from edgert.systemd.machine import Machine

FIRST_VERSION = 247  # of systemd that has LoadCredential=
_HEADING = """\
# In the pipeline file the name stands for the file:  password_file = "NAME",  [serve] token = "NAME",
# and so in [serve.tls]: certificate, key, client_ca"""
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def credentials_drop_in(given: Iterable[str], machine: Machine) -> str:
    """Return the drop-in for NAME=FILE pairs. Raises ConfigError for one that systemd would refuse."""
    lines = [_HEADING, "", "[Service]"]
    for text in given:
        name, file = _name_and_file(text)
        if not machine.at(file).is_file():
            raise ConfigError(f"--credential {text}: there is no file {machine.at(file)}")
        lines.append(f"LoadCredential={name}:{file}")
    return "\n".join(lines) + "\n"


def _name_and_file(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not _NAME.fullmatch(name) or not file.startswith("/") or any(letter in file for letter in "%\n"):
        raise ConfigError(
            f"--credential {text}: expected NAME=FILE, with an absolute path, and letters, digits, '.', '_' "
            "and '-' in the name"
        )
    return name, Path(file)
