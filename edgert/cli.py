"""The `edgert` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edgert import __version__
from edgert.build.arguments import BUILD_EXAMPLES, add_build
from edgert.calibrate.arguments import CALIBRATE_EXAMPLES, add_calibrate
from edgert.cross_command import CROSS_EXAMPLES, add_cross
from edgert.errors import EdgertError
from edgert.exit_codes import ExitCode, exit_code_of
from edgert.listen import command as listen
from edgert.perf import command as perf
from edgert.serve.ask_arguments import access_of, add_access
from edgert.systemd.arguments import SYSTEMD_EXAMPLES, add_systemd

_EXAMPLES = {
    "": """examples:
  edgert demo                       the main job on real clips, nothing to prepare
  edgert check door.toml            is this pipeline file right?
  edgert run door.toml              run it until SIGTERM or Ctrl-C
  edgert build model.onnx --store store      an engine for this GPU, beside its manifest
  edgert calibrate recipe.toml      an INT8 model whose accuracy is known
  edgert perf store/model           how fast is it?
  edgert systemd install door       run /etc/edgert/door.toml as a hardened service
  edgert doctor                     what does this machine have, and what is missing?""",
    "run": """examples:
  edgert run door.toml
  edgert run door.toml --set sources.door.uri=v4l2:/dev/video2 --set service.log_level=debug
  edgert run clips.toml --report counts.json    a finite job: ends with its sources
signals: TERM and INT drain and stop, a second one forces; HUP reads FILE again and, if it is right,
  reloads the models, or drains and starts anew what else has changed
systemd: tells $NOTIFY_SOCKET when it is ready, what it does and, for a watchdog, that nothing hangs""",
    "check": """examples:
  edgert check door.toml
  edgert check door.toml --set models.coco.decode.score_min=0.4""",
    "models": """examples:
  edgert models door.toml                  what the store has and what would be served
  edgert models door.toml --load coco      load or reload it in the running service (http.control)
  edgert models door.toml --unload coco""",
    "doctor": """examples:
  edgert doctor
  edgert doctor --run                      run a tiny engine through the whole line
  edgert doctor --memory                   time the kinds of memory that the device has""",
    "inspect": """examples:
  edgert inspect store/coco
  edgert inspect store/coco/1/model.plan --layers
  edgert inspect --allocations door.toml               who holds memory in the running service
  edgert inspect --allocations https://board:8000 --ca ca.pem --token-file token""",
    "build": BUILD_EXAMPLES,
    "calibrate": CALIBRATE_EXAMPLES,
    "perf": perf.EXAMPLES,
    "listen": listen.EXAMPLES,
    "systemd": SYSTEMD_EXAMPLES,
    "cross": CROSS_EXAMPLES,
    "demo": """examples:
  edgert demo
  edgert demo --seconds 60 --snapshots pictures
  edgert demo --keep example        a working store and pipeline file to begin with""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        try:
            return _run_command(arguments)
        finally:
            sys.stdout.flush()  # now, and not at the interpreter's end, where nobody catches what it raises
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


def _run_command(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return ExitCode.OK
    try:
        return int(options.command(options))
    except EdgertError as error:
        print(f"edgert: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgert",
        description="Runs your own engines on your own cameras and publishes the results over MQTT.",
        epilog=_EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgert {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, help_text, command, add_arguments in _COMMANDS:
        sub = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=_EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(sub)
        sub.set_defaults(command=command)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a pipeline file (TOML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of it",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write all counts there at the end, as JSON"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--load", metavar="MODEL", help="load or reload a model in the running service")
    change.add_argument("--unload", metavar="MODEL", help="unload a model in the running service")
    add_access(parser)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--run", action="store_true", help="run a tiny engine through the whole line")
    test.add_argument("--memory", action="store_true", help="time the kinds of memory that the device has")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "path", type=Path, nargs="?", metavar="PATH", help="a model's folder in a store, or an engine file"
    )
    what.add_argument(
        "--allocations", metavar="URL|FILE", help="ask a running service, or that of FILE, who holds memory"
    )
    parser.add_argument("--events", type=int, default=20, help="how many allocations to list (default 20)")
    parser.add_argument("--layers", action="store_true", help="list the engine's layers")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_access(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_duration, default=10.0, help="how long to run (default 10)")
    parser.add_argument("--snapshots", type=Path, metavar="DIR", help="write annotated frames there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave store and pipeline file there")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where fetched material is kept")


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds greater than 0, not {text}")
    return seconds


_duration.__name__ = "number of seconds"  # argparse says: invalid number of seconds value


def _run(options: argparse.Namespace) -> int:
    from edgert.service.command import run_service

    return run_service(options.file, options.overrides, options.report)


def _check(options: argparse.Namespace) -> int:
    from edgert.pipeline.file import PipelineFile

    file = PipelineFile.load(options.file, options.overrides)
    problems = list(file.problems(opens_engines=True))
    for warning in file.warnings(with_served=True):
        print(f"warning: {warning}", file=sys.stderr)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{options.file}: {file.counted()}: all right")
        return ExitCode.OK
    codes = {exit_code_of(problem) for problem in problems}
    return codes.pop() if len(codes) == 1 else ExitCode.CONFIG


def _models(options: argparse.Namespace) -> int:
    from edgert.models_command import change_model, list_models

    if model := options.load or options.unload:
        return change_model(
            options.file, options.overrides, model, load=bool(options.load), access=access_of(options)
        )
    return list_models(options.file, options.overrides)


def _doctor(options: argparse.Namespace) -> int:
    from edgert.doctor import examine, examine_memory, run_test

    if options.memory:
        return examine_memory()
    return run_test() if options.run else examine()


def _inspect(options: argparse.Namespace) -> int:
    from edgert.inspect import inspect_allocations, inspect_path

    if options.allocations:
        return inspect_allocations(
            options.allocations, events=options.events, as_json=options.json, access=access_of(options)
        )
    return inspect_path(options.path, as_json=options.json, with_layers=options.layers)


def _build(options: argparse.Namespace) -> int:
    from edgert.build.command import run_build

    return run_build(options)


def _calibrate(options: argparse.Namespace) -> int:
    from edgert.calibrate.command import run_calibrate

    return run_calibrate(options)


def _systemd(options: argparse.Namespace) -> int:
    from edgert.systemd.command import run_systemd

    return run_systemd(options)


def _cross(options: argparse.Namespace) -> int:
    from edgert.cross_command import run_cross

    return run_cross(options)


def _demo(options: argparse.Namespace) -> int:
    from edgert.demo.demo import run_demo

    return run_demo(options.seconds, options.snapshots, options.cache, options.keep)


_Command = Callable[[argparse.Namespace], int]
_COMMANDS: tuple[tuple[str, str, _Command, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("run", "Run a pipeline file as a service.", _run, _add_run),
    ("check", "Check a pipeline file with its models, without opening any device.", _check, _add_file),
    ("models", "List a pipeline's models, or change them in the running service.", _models, _add_models),
    ("doctor", "Say what this machine has for edgert and what is missing.", _doctor, _add_doctor),
    (
        "inspect",
        "Say what is in a model: tensors, versions, settings, whether it runs here.",
        _inspect,
        _add_inspect,
    ),
    ("build", "Build an engine from an ONNX file into the store.", _build, add_build),
    (
        "calibrate",
        "Make an INT8 engine from an FP32 model and frames, and say how accurate it is.",
        _calibrate,
        add_calibrate,
    ),
    ("perf", perf.HELP, perf.run, perf.add_arguments),
    ("listen", listen.HELP, listen.run, listen.add_arguments),
    (
        "systemd",
        "Install edgert as a hardened systemd service, fitted to this machine.",
        _systemd,
        add_systemd,
    ),
    ("cross", "Make what a board installs, on an x86-64 machine.", _cross, add_cross),
    ("demo", "Fetch real models and clips and run the main job on them.", _demo, _add_demo),
)


if __name__ == "__main__":
    sys.exit(main())
