"""The command line: help, exit codes, what each command prints."""

from __future__ import annotations

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgert import __version__
from edgert.cli import main
from edgert.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    DeviceLostError,
    EngineMismatchError,
    ModelError,
    OutOfDeviceMemoryError,
    SinkError,
    SourceError,
)
from edgert.exit_codes import ExitCode, exit_code_of
from tests.fakes import store
from tests.fakes.store import Site

README = Path(__file__).parents[2] / "README.md"
GOOD = '[sources.door]\nuri = "replay:noise"\nmodels = ["noop"]\n'
COMMANDS = (
    "run",
    "check",
    "models",
    "doctor",
    "inspect",
    "build",
    "calibrate",
    "perf",
    "listen",
    "systemd",
    "cross",
    "demo",
)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add_noop()
    return site


@pytest.fixture
def root_log():
    """Put the process's log back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def service(monkeypatch, root_log):
    """Return a function that says what the service does instead of running."""
    import edgert.service

    def replace(run):
        monkeypatch.setattr(edgert.service.Service, "run", lambda self: run())

    return replace


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_examples_of_it(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "\nexamples:\n" in text
    assert f"  edgert {command}" in text.partition("examples:")[2]


def test_help_names_every_command(capsys):
    assert main([]) == ExitCode.OK
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in COMMANDS)
    assert "\nexamples:\n" in text


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"edgert {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "--fast", "x"], ["models", "f", "--load", "a", "--unload", "b"]]
)
def test_wrong_use_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.CONFIG
    assert "usage: edgert" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_demo_lasts_some_seconds(capsys, seconds):
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"--seconds={seconds}"])
    assert ended.value.code == ExitCode.CONFIG
    assert "argument --seconds: " in capsys.readouterr().err


def test_commands_that_the_readme_shows_exist():
    shown = {
        line.split("edgert ")[1].split()[0]
        for line in README.read_text().split("`")
        if line.startswith("edgert ")
    }
    assert shown >= {"run", "check", "inspect", "doctor", "models"}
    assert shown <= set(COMMANDS)


def test_exit_codes_that_the_readme_tells_are_those_there_are():
    rows = [line.split("|")[1].strip() for line in README.read_text().splitlines() if line.startswith("|")]
    assert sorted(int(row) for row in rows if row.isdigit()) == sorted(ExitCode)


def test_help_needs_none_of_the_big_libraries():
    big = "('numpy', 'cv2', 'onnxruntime', 'zmq', 'paho', 'google.protobuf', 'logging')"
    code = f"import sys; from edgert.cli import main; main([]); print([m for m in {big} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# Exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.CONFIG),
        (ModelError("x"), ExitCode.MODEL),
        (EngineMismatchError("x"), ExitCode.MODEL),
        (OutOfDeviceMemoryError("x"), ExitCode.DEVICE),
        (DeviceLostError("x"), ExitCode.DEVICE),
        (SourceError("x"), ExitCode.OUTSIDE),
        (SinkError("x"), ExitCode.OUTSIDE),
        (BusyError("x"), ExitCode.WORK_LOST),
        (ClosedError("x"), ExitCode.BUG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_that_ends_the_process_decides_its_exit_code(site, service, capsys, error, code):
    def run():
        raise error

    service(run)
    assert main(["run", str(site.write(GOOD))]) == code == exit_code_of(error)
    assert capsys.readouterr().err.endswith(" critical cli: x\n")


def test_error_that_nobody_foresaw_is_logged_with_its_traceback(site, service, capsys):
    service(lambda: next(iter(())))
    assert main(["run", str(site.write(GOOD)), "--set", "service.log=json"]) == ExitCode.BUG
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["level"] == "critical"
    assert "StopIteration" in event["traceback"]


def test_ctrl_c_before_the_service_runs(site, service):
    def interrupt():
        raise KeyboardInterrupt

    service(interrupt)
    assert main(["run", str(site.write(GOOD))]) == 130


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["models", "FILE"]], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_that_nobody_reads_is_no_error(site, arguments, unbuffered):
    file = str(site.write(GOOD))
    command = [file if argument == "FILE" else argument for argument in arguments]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgert.cli", *command],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


# check


def test_check_says_that_all_is_right(site, capsys):
    file = site.write(GOOD)
    assert main(["check", str(file)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{file}: 1 sources, 1 models: all right\n"


def test_check_prints_every_problem_and_warning(site, capsys):
    site.add("mean", store.mean_model(), config="response_cache { enable: true }\n")
    text = GOOD.replace('"noop"', '"mean", "cat"') + '[sources."a+b"]\nuri = "x:"\nmodels = ["noop"]\n'
    assert main(["check", str(site.write(text))]) == ExitCode.CONFIG
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("warning: ") for line in said] == [True, True, False, False, False]
    assert main(["check", str(site.write(GOOD)), "--set", "nod=x"]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("edgert: ")


def test_check_opens_nothing(site):
    """Not even the libraries that would open something are imported."""
    text = GOOD + '[sources.camera]\nuri = "v4l2:/dev/video9"\nmodels = ["noop"]\n[sinks.m]\ntype = "mqtt"\n'
    code = (
        "import sys; from edgert.cli import main; "
        f"assert main(['check', {str(site.write(text))!r}]) == 0; "
        "print([m for m in ('cv2', 'onnxruntime', 'zmq', 'paho') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# models


def test_models_lists_the_store_with_what_is_served_and_used(site, capsys):
    for version in (1, 2, 10):
        site.add(
            "mean",
            store.mean_model(),
            version=version,
            config="version_policy { latest { num_versions: 2 } }\n",
        )
    site.add("unused", store.mean_model())
    file = site.write(GOOD.replace('"noop"', '"noop", "mean"'))
    assert main(["models", str(file)]) == ExitCode.OK
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["model", "versions", "served", "used", "runtime"],
        ["mean", "1,2,10", "2,10", "yes", "onnxruntime"],
        ["noop", "1", "1", "yes", "noop"],
        ["unused", "1", "1", "no", "onnxruntime"],
    ]


def test_models_says_what_is_wrong_with_one_and_lists_the_others(site, capsys):
    site.add("broken", config="max_batch_size: x\n")
    assert main(["models", str(site.write(GOOD))]) == ExitCode.MODEL
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("broken")
    assert "config.pbtxt:1" in lines[1]
    assert lines[2].startswith("noop")


def test_models_cannot_be_changed_without_http(site, capsys):
    file = site.write(GOOD)
    assert main(["models", str(file), "--load", "noop"]) == ExitCode.CONFIG
    said = f"edgert: {file}: http is not set, so the service cannot be asked. Add [http] control = true.\n"
    assert capsys.readouterr().err == said


def test_models_cannot_be_changed_while_nothing_runs(site, capsys):
    file = site.write(GOOD + "[http]\nport = 1\n")
    assert main(["models", str(file), "--unload", "noop"]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert said.startswith("edgert: No service answers at 127.0.0.1:1: ")
    assert said.endswith("Is `edgert run` running?\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n<html>", "answered 404; is it edgert?"),
        (b"HTTP/1.0 400 Bad\r\n\r\n{}", "answered 400; is it edgert?"),
        (b'HTTP/1.0 400 Bad\r\n\r\n{"error": "no"}', "edgert: no\n"),
        (b"SSH-2.0-OpenSSH\r\n", "No service answers"),
        (b"", "No service answers"),
    ],
)
def test_somebody_else_who_answers_is_not_believed(site, capsys, answer, said):
    with answering(answer) as port:
        file = site.write(GOOD + f"[http]\nport = {port}\n")
        assert main(["models", str(file), "--load", "noop"]) in (ExitCode.CONFIG, ExitCode.MODEL)
    assert said in capsys.readouterr().err


@contextmanager
def answering(answer):
    """Listen, and answer one request with these bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(answer)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        yield server.server_port
    finally:
        thread.join(10)
        server.server_close()
