"""The command line of `edgert systemd`. Imported by every command, so it imports nothing of weight."""

from __future__ import annotations

import argparse
from pathlib import Path

SYSTEMD_EXAMPLES = """examples:
  edgert systemd show                           what would be installed here, and why
  sudo edgert systemd install door              run /etc/edgert/door.toml as edgert@door
  sudo edgert systemd install door --credential mqtt-password=/etc/edgert/credentials/mqtt
  sudo edgert systemd install door --credential token=/etc/edgert/credentials/token     for [serve]
  edgert systemd install door --root image --board orin      into a root file system on another machine
  sudo edgert systemd remove                    stop it and take away what install has written
Files that somebody has edited are kept, and said; the exit code is then 2."""
BOARDS = ("orin", "thor", "none")


def add_systemd(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, help_text in (
        ("show", "print what install would write, with the reason for each device"),
        ("install", "write units and drop-ins; again after a change of board, driver or edgert"),
        ("remove", "stop the service and remove what install has written"),
    ):
        action = actions.add_parser(name, help=help_text, description=help_text)
        _add_place(action)
        if name != "remove":
            _add_choices(action)


def _add_place(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "instances",
        nargs="*",
        metavar="INSTANCE",
        help="pipelines by name: /etc/edgert/INSTANCE.toml is edgert@INSTANCE",
    )
    action.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="root file system of an image"
    )


def _add_choices(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--board", choices=BOARDS, help="devices as recorded for a board, instead of those found"
    )
    action.add_argument("--program", type=Path, metavar="FILE", help="the edgert that the service runs")
    action.add_argument(
        "--credential",
        action="append",
        default=[],
        metavar="NAME=FILE",
        dest="credentials",
        help="a secret that systemd reads and only the instance sees; NAME goes into its pipeline file",
    )
