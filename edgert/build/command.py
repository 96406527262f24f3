"""`edgert build`: builds engines into the store, compares them, takes them back."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from edgert.build.agreement import as_record, compare_version, obstacle
from edgert.build.compare import limits_for
from edgert.build.install import roll_back
from edgert.build.options import Precision
from edgert.build.pictures import list_pictures
from edgert.build.report import agreement_lines, report_lines
from edgert.build.request import check_packages, read_request
from edgert.build.target import plan_of
from edgert.errors import ConfigError, ModelError
from edgert.exit_codes import ExitCode
from edgert.models.manifest import Manifest, read_manifest, sha256_of, write_manifest
from edgert.models.store import ModelStore


def run_build(arguments: argparse.Namespace) -> ExitCode:
    """Do what the command line asks for. Raises EdgertError, KeyboardInterrupt."""
    logging.getLogger("tensorrt").addHandler(logging.NullHandler())  # what it says comes as errors and notes
    if arguments.rollback:
        return _roll_back(arguments)
    check_packages()
    if arguments.compare:
        return _compare_newest(arguments)
    return _build(arguments)


def _build(arguments: argparse.Namespace) -> ExitCode:
    from edgert.build.version import build_version  # onnx only where it is needed

    for options in read_request(arguments):
        report = build_version(options)
        _say(report, report_lines(report), as_json=arguments.json)
    return ExitCode.OK


def _roll_back(arguments: argparse.Namespace) -> ExitCode:
    done = roll_back(arguments.store, arguments.rollback)
    folder = arguments.store / done.model
    lines = [
        f"{done.model}: version {done.active} is the newest again, {done.rolled_back} is now {done.folder}",
        f"  a running service follows when it reloads: edgert models FILE --load {done.model}, or SIGHUP",
        f"  to undo: mv {folder / done.folder} {folder / str(done.rolled_back)}",
    ]
    _say(done, lines, as_json=arguments.json)
    return ExitCode.OK


def _compare_newest(arguments: argparse.Namespace) -> ExitCode:
    """Compare the newest version that is served, and write into its manifest how near it is."""
    entry = ModelStore(arguments.store).entry(arguments.compare)
    plan, version = plan_of(entry), entry.chosen_versions()[-1]
    if arguments.model is None:
        raise ConfigError(f"--compare {entry.name}: expected MODEL.onnx too, which it was built from")
    pictures = list_pictures(arguments.frames)
    if reason := obstacle(plan.runtime, pictures):
        raise type(reason)(f"--compare {entry.name}: {reason}")
    plan_file = entry.engine_file(version)
    manifest = read_manifest(plan_file)
    _check_source(arguments, manifest)
    limits = limits_for(_precision(manifest), arguments.tolerance)
    record = as_record(compare_version(plan, version, arguments.model, pictures, limits))
    if manifest is not None:
        write_manifest(plan_file, msgspec.structs.replace(manifest, agreement=record))
    lines = [f"{entry.name} {version.number}:", *(f"  {line}" for line in agreement_lines(record))]
    if not record["near"]:
        lines.append(f"  to go back: edgert build --rollback {entry.name} --store {arguments.store}")
    _say({"model": entry.name, "version": version.number, **record}, lines, as_json=arguments.json)
    return ExitCode.OK if record["near"] else ExitCode.MODEL


def _check_source(arguments: argparse.Namespace, manifest: Manifest | None) -> None:
    """Raise ModelError if the engine was built from something else."""
    if manifest is None:
        return
    actual = sha256_of(arguments.model)
    if actual != manifest.source.sha256:
        raise ModelError(
            f"{arguments.model} has SHA-256 {actual}, the engine was built from {manifest.source.name} with "
            f"{manifest.source.sha256}. Give that file"
        )


def _precision(manifest: Manifest | None) -> Precision:
    stated = manifest.precision if manifest else ""
    return "fp16" if stated == "fp16" else "int8" if stated == "int8" else "fp32"


def _say(report: Any, lines: Sequence[str], *, as_json: bool) -> None:
    """Print a report: one JSON document a line, or text."""
    text = msgspec.json.encode(report).decode() if as_json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
