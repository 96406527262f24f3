"""`edgert cross`: hands over to the cross-build of the checkout that edgert runs from."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from edgert.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parent.parent

CROSS_EXAMPLES = """examples:
  edgert cross targets                    which boards there are
  edgert cross build jetson-orin-jp6      a .deb and an archive in dist/
  edgert cross build --help
In a checkout on an x86-64 machine. `python -m cross` is the same."""


def add_cross(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, which the cross-build reads itself."""
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="build, targets, sizes, ..."
    )


def run_cross(options: argparse.Namespace, checkout: Path = CHECKOUT) -> int:
    """Run the cross-build and return its exit code. Raises ConfigError where edgert is not in a checkout."""
    if not (checkout / "cross" / "command.py").is_file():
        raise ConfigError(
            f"edgert stands in {checkout}, which is no checkout: the cross-build is not part of the package. "
            "Clone the repository and run there: python -m cross"
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return int(importlib.import_module("cross.command").main(options.arguments or ["--help"]))
