from __future__ import annotations

import inspect
import re

import pytest

from edgert import errors
from edgert.errors import EdgertError
from edgert.exit_codes import ExitCode, exit_code_of


def classes():
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def drawn_tree():
    """Return {class: parent} as the module's docstring draws it."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    assert drawn_tree() == {kind.__name__: kind.__base__.__name__ for kind in classes()}


@pytest.mark.parametrize("kind", classes())
def test_every_error_says_what_it_means_and_keeps_its_message(kind):
    assert kind.__doc__
    assert str(kind("what happened")) == "what happened"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.FrameError, "frame_error"),
        (errors.OutOfDeviceMemoryError, "out_of_device_memory_error"),
        (errors.EndOfSourceError, "end_of_source_error"),
        (EdgertError, "edgert_error"),
    ],
)
def test_the_status_is_the_name_in_snake_case(kind, status):
    assert kind("x").status == status


def test_statuses_tell_all_errors_apart():
    assert len({kind().status for kind in classes()}) == len(classes())


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.ModelError, 3),
        (errors.EngineMismatchError, 3),
        (errors.DeviceLostError, 4),
        (errors.OutOfDeviceMemoryError, 4),
        (errors.SourceError, 5),
        (errors.FrameError, 5),
        (errors.SinkError, 5),
        (errors.ClosedError, 1),
        (errors.BusyError, 6),
    ],
)
def test_an_error_that_ends_the_process_has_its_exit_code(kind, code):
    assert exit_code_of(kind("x")) == code


def test_no_exit_code_is_one_that_the_shell_or_python_uses():
    assert ExitCode.OK == 0
    assert ExitCode.BUG == 1  # Python's own for an uncaught exception
    assert max(ExitCode) < 64
