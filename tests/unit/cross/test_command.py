"""`edgert cross` and `python -m cross`: exit codes and what is said."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from cross import command
from cross.command import main
from cross.errors import BundleError, CrossError
from edgert import cli
from edgert.cross_command import CHECKOUT, run_cross
from edgert.errors import ConfigError


def test_targets_are_listed(capsys):
    assert main(["targets"]) == 0
    assert "jetson-orin-jp6   Jetson Orin, JetPack 6 (L4T 36)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "jetson-thor"], "did you mean 'jetson-thor-jp7'"),
        (["build", "drive-qnx"], "python -m cross check drive-qnx"),
        (["lock", "nothing"], "There is no target 'nothing'"),
    ],
)
def test_a_wrong_target_is_a_wrong_option(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        *((ConfigError("c"), 2), (CrossError("m"), 5), (BundleError("b"), 6)),
        *((OSError(28, "No space left on device"), 5), (KeyboardInterrupt(), 130)),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, capsys, error, code):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("cross.build.build", fail)
    assert main(["build", "x86_64"]) == code
    said = capsys.readouterr().err
    assert said.startswith("edgert cross: ")
    assert said.count("\n") == 1
    assert "No space" not in said or "dist: No space left on device" in said


def test_edgert_hands_its_arguments_over(capsys):
    assert cli.main(["cross", "build", "jetson-thor"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_an_installed_edgert_says_that_it_is_no_checkout(tmp_path):
    with pytest.raises(ConfigError, match="which is no checkout"):
        run_cross(argparse.Namespace(arguments=["targets"]), tmp_path)


def test_python_runs_the_package():
    done = subprocess.run(
        [sys.executable, "-m", "cross", "targets"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "drive-qnx" in done.stdout


def test_every_command_has_help(capsys):
    for name in ("build", "targets", "sizes", "lock", *command.BESIDE):
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
