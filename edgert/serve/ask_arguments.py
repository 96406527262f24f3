"""What a person gives beside an address to be let into a running service."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec


class Access(msgspec.Struct, frozen=True):
    """Files that open a service's door; None: what its pipeline file says, or nothing."""

    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def add_access(parser: argparse.ArgumentParser) -> None:
    """Make the options known."""
    group = parser.add_argument_group("access to the running service")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the bearer token that the service wants"
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="who signed the service's certificate")
    group.add_argument(
        "--certificate", type=Path, metavar="FILE", help="yours, for a service that wants to see one"
    )
    group.add_argument(
        "--key", type=Path, metavar="FILE", help="its key, if that stands in a file of its own"
    )


def access_of(options: argparse.Namespace) -> Access:
    """Return what was given."""
    return Access(options.token_file, options.ca, options.certificate, options.key)
