"""`edgert listen` on the command line. Imports nothing large before it runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgert.exit_codes import ExitCode
from edgert.listen.arguments import add_arguments

if TYPE_CHECKING:
    from edgert.listen.display import Display
    from edgert.listen.target import Asked

HELP = "Show live what nodes publish on a broker: results, states, what is missing."
EXAMPLES = """examples:
  edgert listen                                 every node at 127.0.0.1:1883
  edgert listen door.toml                       the broker and node of a pipeline file
  edgert listen --host broker --user me --password-file secret --ca-file ca.pem
  edgert listen --node porch --json --count 100 > results.jsonl
columns: miss(ing) are numbers without a result, which frames that were dropped leave too; dup(licate) are
  results with a key that was heard before; late ones came after a later number; hist(orical) ones were kept
  while the broker was away. Latencies, from the capture to publishing, are of those that are not historical.
Ctrl-C ends with a summary; what is not a terminal gets lines for a log"""

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

_BROKER_KEYS = {"host": "host", "port": "port", "user": "user", "root": "topic_root"}
_TLS_KEYS = ("ca_file", "certificate_file", "key_file")


def run(options: argparse.Namespace) -> int:
    """Listen until Ctrl-C. Raises EdgertError, KeyboardInterrupt."""
    from edgert.listen.run import Bounds, listen
    from edgert.listen.target import read_target

    target = read_target(read_options(options))
    display = _display(options, sys.stdout)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may have letters that the locale lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    listen(target, display, sys.stdout, Bounds(options.seconds, options.count))
    return ExitCode.OK


def read_options(options: argparse.Namespace) -> Asked:
    """Return the command line, typed."""
    from edgert.listen.target import Asked

    given = {key: getattr(options, name) for name, key in _BROKER_KEYS.items()}
    broker: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if options.password_file is not None:
        broker["password_file"] = _absolute(options.password_file)
    tls = {key: _absolute(file) for key in _TLS_KEYS if (file := getattr(options, key)) is not None}
    if tls or options.tls:
        broker["tls"] = tls
    return Asked(
        file=options.file,
        sink=options.sink,
        broker=broker,
        node=options.node,
        source=options.source,
        model=options.model,
    )


def _absolute(file: str) -> str:
    """Return a path of the command line as one that is not taken relative to the pipeline file."""
    return str(Path(file).absolute())


def _display(options: argparse.Namespace, out: TextIO) -> Display:
    from edgert.listen.display import Lines, Screen
    from edgert.listen.json_lines import JsonLines

    if options.json:
        return JsonLines(out)
    if out.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        return Screen(out, has_color=not options.no_color and not os.environ.get("NO_COLOR"))
    return Lines(out)
