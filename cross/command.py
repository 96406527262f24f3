"""The command line: `python -m cross`, and `edgert cross` in a checkout."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cross.errors import BundleError
from cross.own_wheel import CHECKOUT
from cross.progress import say
from edgert.errors import EdgertError
from edgert.exit_codes import ExitCode, exit_code_of

EXAMPLES = """examples:
  edgert cross build debian-arm64         a .deb and an archive in dist/
  edgert cross build jetson-orin-jp6 --sysroot /srv/l4t-36.4    with pycuda compiled against that root
  edgert cross build jetson-thor-jp7 --offline    from what an earlier build has fetched
  edgert cross targets                    which boards there are
  edgert cross check drive-qnx            what does this machine have for native code, and what is missing?
  edgert cross smoke                      try debian-arm64's bundle under qemu
  edgert cross sizes                      of the bundles in dist/
  edgert cross lock jetson-orin-jp6       choose its wheels anew and write their hashes down
`make cross TARGET=...` and `python -m cross ...` are the same. Exit codes: 2 a target, lock or option is
wrong, 5 this machine or the registry failed, 6 what was fetched or compiled does not fit the target."""
BESIDE = ("check", "smoke")  # modules of commands with `HELP`, `add_arguments` and `run` of their own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(options.command(options))
    except EdgertError as error:
        print(f"edgert cross: {error}", file=sys.stderr)
        return _exit_code(error)
    except OSError as error:  # a full or read-only disk; a failing write does not say of which file
        print(f"edgert cross: {error.filename or options.dist}: {error.strerror}", file=sys.stderr)
        return ExitCode.OUTSIDE
    except KeyboardInterrupt:
        print("edgert cross: interrupted; dist/ is as it was", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit_code(error: EdgertError) -> int:
    if isinstance(error, BundleError):
        return ExitCode.WORK_LOST
    code = exit_code_of(error)
    return ExitCode.OUTSIDE if code == ExitCode.BUG else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgert cross",
        description="Makes what a board installs, on an x86-64 machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, help_text, command, add_arguments in _COMMANDS:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(sub)
        sub.set_defaults(command=command)
    for name in BESIDE:
        module = importlib.import_module(f"cross.{name}")
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(command=module.run)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="`edgert cross targets` lists them")


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dist", type=Path, default=CHECKOUT / "dist", metavar="DIR", help="default: dist")


def _add_build(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    _add_folders(parser)
    parser.add_argument(
        "--cache",
        type=Path,
        default=CHECKOUT / ".cache" / "cross",
        metavar="DIR",
        help="default: .cache/cross",
    )
    parser.add_argument(
        "--sysroot", type=Path, metavar="DIR", help="the board's root file system: compile pycuda"
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="edgert's, instead of building it")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    pass


def _build(options: argparse.Namespace) -> int:
    from cross.build import build
    from cross.collect import Where
    from cross.sizes import print_sizes
    from cross.target import read_target

    target = read_target(options.target)
    sysroot = options.sysroot.resolve() if options.sysroot else None
    where = Where(options.dist.resolve(), options.cache.resolve(), sysroot, options.offline, options.wheel)
    files = build(target, where)
    say("done")
    for file in files:
        print(file)
    print_sizes(where.dist, {target.name})
    return ExitCode.OK


def _targets(_: argparse.Namespace) -> int:
    from cross.target import read_target, target_names

    for name in target_names():
        print(f"{name:<17} {read_target(name).description}")
    return ExitCode.OK


def _sizes(options: argparse.Namespace) -> int:
    from cross.sizes import print_sizes

    print_sizes(options.dist)
    return ExitCode.OK


def _lock(options: argparse.Namespace) -> int:
    from cross.lock import TOOLS
    from cross.resolve import lock_target, lock_tools
    from cross.target import read_target

    print(lock_tools() if options.target == TOOLS else lock_target(read_target(options.target)))
    return ExitCode.OK


_Command = Callable[[argparse.Namespace], int]
_COMMANDS: tuple[tuple[str, str, _Command, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("build", "Build the bundle of a target.", _build, _add_build),
    ("targets", "List the targets.", _targets, _add_nothing),
    ("sizes", "Say how large the bundles are, packed and installed.", _sizes, _add_folders),
    ("lock", "Write down which wheels a target takes; `tools` are those of the build.", _lock, _add_target),
)
