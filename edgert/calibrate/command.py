"""`edgert calibrate`: from an FP32 model and frames to an INT8 engine whose accuracy is known."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgert.calibrate.recipe import Recipe, load_recipe
from edgert.errors import BusyError, ConfigError
from edgert.exit_codes import ExitCode

if TYPE_CHECKING:  # onnx only where it is needed
    from edgert.calibrate.run import Outcome

_PACKAGES = {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnx_graphsurgeon": "onnx-graphsurgeon"}


def run_calibrate(arguments: argparse.Namespace) -> ExitCode:
    """Do what the command line asks for. Raises EdgertError, KeyboardInterrupt."""
    logging.getLogger("edgert").addHandler(logging.NullHandler())  # warnings stand in the report
    check_packages()
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.check:
        return _check(recipe)
    again = [str(arguments.recipe), *(word for each in arguments.overrides for word in ("--set", each))]
    try:
        return _calibrate(recipe, as_json=arguments.json, is_fresh=arguments.fresh)
    except KeyboardInterrupt:
        print(f"edgert: stopped. To go on: edgert calibrate {shlex.join(again)}", file=sys.stderr)
        raise


def check_packages(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Raise ConfigError if what reads, changes and runs models is not installed."""
    if missing := [package for name, package in _PACKAGES.items() if find(name) is None]:
        raise ConfigError(
            f"edgert calibrate needs {' and '.join(missing)}, not found here. Run: pip install "
            "'edgert[calibrate]'"
        )


def _check(recipe: Recipe) -> ExitCode:
    from edgert.calibrate.check import first_frame, open_checked  # onnx only where it is needed

    setting, placement = open_checked(recipe)
    print(
        f"{recipe.path}: fits {setting.model.file.path}: {len(placement.layers)} layers and "
        f"{len(placement.tensors)} tensors can be INT8",
        flush=True,
    )
    print(f"{recipe.path}: the first frame came: {first_frame(setting)}")
    return ExitCode.OK


def _calibrate(recipe: Recipe, *, as_json: bool, is_fresh: bool) -> ExitCode:
    from edgert.calibrate.progress import StageProgress  # onnx only where it is needed
    from edgert.calibrate.report.report import report_json
    from edgert.calibrate.report.text import report_lines
    from edgert.calibrate.run import calibrate

    try:
        outcome = calibrate(recipe, StageProgress(recipe.name), is_fresh=is_fresh)
    except BusyError as error:
        print(f"edgert: {error}", file=sys.stderr)
        return ExitCode.OUTSIDE
    if as_json:
        sys.stdout.write(report_json(outcome.report).decode())
    else:
        print("\n".join([*report_lines(outcome.report), *_where(outcome, recipe)]))
    return ExitCode.OVER_LIMIT if outcome.report.problems else ExitCode.OK


def _where(outcome: Outcome, recipe: Recipe) -> Iterator[str]:
    from edgert.calibrate.run import INT8_MODEL, REPORT_HTML

    model, engine = outcome.work / INT8_MODEL, recipe.options.engine
    yield f"  report: {outcome.work / REPORT_HTML}"
    yield f"  model: {model}"
    if outcome.delivered is not None:
        delivered = outcome.delivered
        yield f"  in the store: {delivered.model} {delivered.version}, {delivered.file}"
        yield from (f"  note: {note}" for note in delivered.notes)
    elif outcome.report.problems:
        yield "  NOT added to the store, which stays as it is: over a limit"
    elif engine is not None:
        yield "  NOT in the store: engine.activate is false"
    else:
        words = ("edgert", "build", model, "--precision", "int8", "--store", recipe.store)
        like = ("--name", recipe.name, "--like", recipe.options.model)
        yield f"  to build it: {shlex.join(map(str, (*words, *like)))}"
