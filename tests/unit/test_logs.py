from __future__ import annotations

import json
import logging
import os
import re
import sys

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


@pytest.mark.parametrize("evil", ["\n", "\r", "\x1b[2J", "\x85", "\N{LINE SEPARATOR}", "\0"])
def test_what_a_sender_says_makes_no_lines_of_its_own(set_up, capsys, evil):
    set_up("text", "info")
    line = log_one(capsys, "source %s", f"door{evil}12:00:00 error cli: all is lost").removesuffix("\n")
    assert line.splitlines() == [line]
    assert evil not in line
    assert repr(evil).strip("'") in line


def test_only_events_begin_at_the_first_column(set_up, capsys):
    set_up("text", "info")
    try:
        raise ValueError("door\n12:00:00 error cli: all is lost\n\n\x1b[2J")
    except ValueError:
        text = log_one(capsys, "failed", exc_info=True)
    first, *others = text.splitlines()
    assert first.endswith("warning capture: failed")
    assert "    12:00:00 error cli: all is lost" in others
    assert [line for line in others if not line.startswith("    ")] == []
    assert "\x1b" not in text


@pytest.fixture
def journal(set_up, tmp_path, monkeypatch):
    """Return a function that sets logging up with standard error as the journal, and the file behind it."""
    file = tmp_path / "journal"
    with file.open("w") as stream:

        def set_up_journal(form):
            monkeypatch.setattr(sys, "stderr", stream)
            status = os.fstat(stream.fileno())
            set_up(form, "debug", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})

        yield set_up_journal, file


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_the_journal_is_told_the_priority_and_keeps_the_time_itself(journal, level, priority):
    set_up_journal, file = journal
    set_up_journal("text")
    getattr(logging.getLogger("edgert.capture.camera"), level)("source %s is away", "door")
    assert file.read_text() == f"<{priority}>{level:7} capture: source door is away\n"


def test_each_line_of_a_traceback_has_the_priority(journal):
    set_up_journal, file = journal
    set_up_journal("text")
    try:
        raise ValueError("<0>by the\n<0>lens")
    except ValueError:
        logging.getLogger("edgert.cli").critical("failed", exc_info=True)
    lines = file.read_text().splitlines()
    assert len(lines) > 3
    assert {line[:3] for line in lines} == {"<2>"}


def test_json_in_the_journal_is_whole(journal):
    set_up_journal, file = journal
    set_up_journal("json")
    logging.getLogger("edgert.cli").error("one\ntwo")
    (line,) = file.read_text().splitlines()
    assert line[:3] == "<3>"
    assert json.loads(line[3:])["message"] == "one\ntwo"


@pytest.mark.parametrize("named", ["", "1:2", "nonsense"])
def test_another_stream_than_the_journals_has_its_clock(set_up, tmp_path, monkeypatch, named):
    """As when somebody sends standard error to a file in a unit, or runs edgert from a service's shell."""
    file = tmp_path / "log"
    with file.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up("text", "info", {"JOURNAL_STREAM": named})
        logging.getLogger("edgert.cli").error("trouble")
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   cli: trouble\n", file.read_text())


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
