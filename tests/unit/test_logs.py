from __future__ import annotations

import json
import logging
import re

import pytest

from edgert.logs import set_up_logging


@pytest.fixture
def set_up(capsys):
    """Return `set_up_logging`; afterwards the root logger is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # pytest's own are kept from being closed
    yield set_up_logging
    root.handlers[:] = handlers
    root.setLevel(level)


def log_one(capsys, *arguments, part="edgert.capture.camera", level=logging.WARNING, **options):
    logging.getLogger(part).log(level, *arguments, **options)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_text_line_has_time_level_stage_and_message(set_up, capsys):
    set_up("text", "info")
    line = log_one(capsys, "source %s is %s", "door", "ready")
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning capture: source door is ready\n", line)


def test_a_json_line_has_utc_level_part_and_message(set_up, capsys):
    set_up("json", "info")
    event = json.loads(log_one(capsys, "source %s is %s", "door", "ready", level=logging.INFO))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("utc"))
    assert event == {"level": "info", "part": "capture.camera", "message": "source door is ready"}


def test_time_of_a_json_line_is_utc(set_up, capsys, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_500_000_000)
    set_up("json", "info")
    assert json.loads(log_one(capsys, "x"))["utc"] == "2023-11-14T22:13:20.500Z"


def test_one_event_is_one_json_line_whatever_it_says(set_up, capsys):
    set_up("json", "info")
    text = log_one(capsys, "one\ntwo \N{SNOWMAN} \x1b[31m")
    assert text.count("\n") == 1
    assert json.loads(text)["message"] == "one\ntwo \N{SNOWMAN} \x1b[31m"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_brings_its_traceback(set_up, capsys, form):
    set_up(form, "info")
    try:
        raise ZeroDivisionError("by the lens")
    except ZeroDivisionError:
        text = log_one(capsys, "failed", exc_info=True)
    assert "ZeroDivisionError: by the lens" in text
    assert "Traceback" in (json.loads(text)["traceback"] if form == "json" else text)


def test_what_is_below_the_level_is_not_logged(set_up, capsys):
    set_up("text", "warning")
    assert log_one(capsys, "detail", level=logging.INFO) == ""
    assert log_one(capsys, "trouble") != ""


def test_setting_up_again_does_not_double_the_lines(set_up, capsys):
    set_up("text", "info")
    set_up("text", "info")
    assert log_one(capsys, "once").count("once") == 1


def test_other_libraries_are_named_in_full(set_up, capsys):
    set_up("json", "info")
    assert json.loads(log_one(capsys, "x", part="asyncio"))["part"] == "asyncio"
