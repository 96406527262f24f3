"""The arguments of `edgert listen`. Imports nothing large: every `edgert --help` reads them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.allow_abbrev = False  # --password SECRET is to be refused, not to be read as --password-file
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a pipeline file: its broker, topic root and node"
    )
    parser.add_argument("--sink", metavar="NAME", help="which of the file's mqtt sinks, if it has several")
    _add_broker(parser.add_argument_group("broker"))
    _add_choice(parser.add_argument_group("what to listen for"))
    _add_output(parser.add_argument_group("output"))


def _add_broker(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", help="default 127.0.0.1, or the file's")
    group.add_argument("--port", type=_count, help="default 1883, with TLS 8883, or the file's")
    group.add_argument("--user", help="without --password-file no password is sent")
    group.add_argument("--password-file", metavar="FILE", help="its first line is the password")
    group.add_argument("--tls", action="store_true", help="encrypt; the next three mean it too")
    group.add_argument("--ca-file", metavar="FILE", help="PEM: who vouches for the broker")
    group.add_argument("--certificate-file", metavar="FILE", help="PEM, shown to a broker that asks for one")
    group.add_argument("--key-file", metavar="FILE", help="PEM, of the certificate")
    group.add_argument("--root", metavar="TOPIC", help="default edgert, or the file's topic_root")


def _add_choice(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--node", metavar="N", help="only this one (default: all, or the file's)")
    group.add_argument("--source", metavar="S", help="only this one")
    group.add_argument("--model", metavar="M", help="only this one")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print all that is heard, an object a line")
    group.add_argument("--seconds", type=_seconds, metavar="S", help="end after so long")
    group.add_argument("--count", type=_count, metavar="N", help="end after so many results")
    group.add_argument("--no-color", action="store_true", help="as the environment's NO_COLOR")


# Types of arguments. argparse shows their names: "invalid whole number value".


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, not {text}")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds greater than 0, not {text}")
    return seconds


_count.__name__ = "whole number"
_seconds.__name__ = "number of seconds"
