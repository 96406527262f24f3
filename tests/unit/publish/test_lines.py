"""JSON lines to files and pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from edgert.errors import ClosedError, ConfigError, SinkError
from edgert.publish import queued
from edgert.publish.lines import LOOK_AFTER_NS, LineOutput, LinesSink
from edgert.publish.options import LinesOptions
from edgert.publish.payload import ResultEncoder
from tests.fakes.clock import FakeClock

TIMEOUT_S = 10.0


def sink(path=None, resolve=None, **options):
    return LinesSink(
        "lines", LinesOptions(path=path, **options), ResultEncoder("n", "b"), *filter(None, [resolve])
    )


@pytest.fixture
def pipe():
    """A pipe and a LineOutput on its writing end."""
    reader, writer = os.pipe()
    output = LineOutput(f"/dev/fd/{writer}", lambda: False)
    os.close(writer)
    yield reader, output
    output.close()
    os.close(reader)


def test_results_are_appended_to_the_file_one_line_each(tmp_path, make_result):
    (tmp_path / "out.jsonl").write_text("before\n")
    lines = sink("out.jsonl", tmp_path.joinpath)
    lines.open()
    for seq in range(3):
        lines.send(make_result(seq))
    lines.close(TIMEOUT_S)
    first, *rest = (tmp_path / "out.jsonl").read_text().splitlines()
    assert first == "before"
    assert [json.loads(line)["seq"] for line in rest] == [0, 1, 2]
    assert lines.statistics().sent == 3


def test_without_a_path_they_go_to_standard_output(make_result, capfd):
    lines = sink()
    lines.open()
    assert lines.statistics().is_connected
    lines.send(make_result(4))
    lines.close(TIMEOUT_S)
    assert json.loads(capfd.readouterr().out)["seq"] == 4
    assert not lines.statistics().is_connected


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"Sink lines: path .*/absent/out cannot be opened.*: No such file"):
        sink("absent/out", tmp_path.joinpath).open()


def test_a_full_disk_fails_and_is_tried_again():
    output = LineOutput("/dev/full", lambda: False)
    for _ in range(2):
        with pytest.raises(SinkError, match="/dev/full cannot be written: No space left on device"):
            output.write(b"{}\n")
    assert not output.is_broken
    output.close()


def test_after_a_torn_line_the_next_begins_on_its_own(tmp_path, monkeypatch):
    output = LineOutput(tmp_path / "out", lambda: False)
    real_write = os.write
    steps = iter([3, OSError(28, "No space left on device")])

    def write_little(fd, data):
        step = next(steps, len(data))
        if isinstance(step, OSError):
            raise step
        return real_write(fd, data[:step])

    monkeypatch.setattr(os, "write", write_little)
    with pytest.raises(SinkError):
        output.write(b'{"a": 1}\n')
    output.write(b'{"b": 2}\n')
    output.close()
    assert (tmp_path / "out").read_bytes() == b'{"a\n{"b": 2}\n'


def test_nothing_is_tried_again_when_the_reader_has_gone():
    reader, writer = os.pipe()
    output = LineOutput(f"/dev/fd/{writer}", lambda: False)
    os.close(reader)
    os.close(writer)
    with pytest.raises(SinkError, match="Broken pipe"):
        output.write(b"{}\n")
    with pytest.raises(SinkError, match="Broken pipe"):
        output.write(b"{}\n")
    assert output.is_broken
    output.close()


def test_more_than_a_pipe_holds_arrives_whole(pipe):
    reader, output = pipe
    text = b"x" * 300_000 + b"\n"
    writer = threading.Thread(target=output.write, args=(text,))
    writer.start()
    received = b""
    while len(received) < len(text):
        received += os.read(reader, 65_536)
    writer.join(TIMEOUT_S)
    assert received == text


def test_a_reader_that_is_too_slow_does_not_hold_up_closing(tmp_path, make_result):
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    lines = sink("fifo", tmp_path.joinpath)
    lines.open()
    for seq in range(900):  # a pipe holds about 200 of them
        lines.send(make_result(seq))
    lines.close(timeout_s=0.0)
    statistics = lines.statistics()
    assert statistics.dropped["closed"] > 0
    assert statistics.sent + statistics.dropped["closed"] == 900
    os.close(reader)


def test_giving_up_in_the_middle_of_a_write(pipe):
    _, output = pipe
    output._gives_up = lambda: True
    with pytest.raises(ClosedError, match="was not read in time"):
        output.write(b"x" * 300_000)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def rotated(tmp_path, clock):
    """A LineOutput to `out` that has written one line."""
    before = LineOutput.live.count
    output = LineOutput(tmp_path / "out", lambda: False, clock)
    output.write(b"1\n")
    yield output
    output.close()
    assert LineOutput.live.count == before


def test_a_renamed_file_is_left_and_its_path_opened_anew(tmp_path, rotated, clock):
    (tmp_path / "out").rename(tmp_path / "out.1")
    rotated.write(b"2\n")  # not looked at again so soon: the line is in the old file, not lost
    clock.advance(LOOK_AFTER_NS)
    rotated.write(b"3\n")
    rotated.write(b"4\n")
    assert (tmp_path / "out.1").read_text() == "1\n2\n"
    assert (tmp_path / "out").read_text() == "3\n4\n"


def test_a_deleted_or_replaced_file_is_left_too(tmp_path, rotated, clock):
    (tmp_path / "out").unlink()
    clock.advance(LOOK_AFTER_NS)
    rotated.write(b"2\n")
    assert (tmp_path / "out").read_text() == "2\n"
    (tmp_path / "new").write_text("new\n")
    (tmp_path / "new").replace(tmp_path / "out")
    clock.advance(LOOK_AFTER_NS)
    rotated.write(b"3\n")
    assert (tmp_path / "out").read_text() == "new\n3\n"


def test_a_file_in_its_place_is_kept(tmp_path, rotated, clock):
    fd = rotated._fd
    clock.advance(LOOK_AFTER_NS)
    rotated.write(b"2\n")
    assert rotated._fd == fd
    assert (tmp_path / "out").read_text() == "1\n2\n"


def test_a_file_that_cannot_be_opened_anew_fails_until_it_can(tmp_path, rotated, clock):
    (tmp_path / "out").rename(tmp_path / "out.1")
    (tmp_path / "out").mkdir()
    clock.advance(LOOK_AFTER_NS)
    for _ in range(2):
        with pytest.raises(SinkError, match="out cannot be opened for writing: Is a directory"):
            rotated.write(b"2\n")
    (tmp_path / "out").rmdir()
    rotated.write(b"3\n")
    assert (tmp_path / "out").read_text() == "3\n"


def test_a_torn_line_is_not_ended_in_the_next_file(tmp_path, rotated, clock):
    rotated._is_torn = True
    (tmp_path / "out").rename(tmp_path / "out.1")
    clock.advance(LOOK_AFTER_NS)
    rotated.write(b"2\n")
    assert (tmp_path / "out").read_text() == "2\n"


def test_a_write_that_does_not_return_keeps_its_descriptor(tmp_path, make_result, monkeypatch):
    monkeypatch.setattr(queued, "LAST_WORD_S", 0.0)
    before = LineOutput.live.count
    is_writing, may_return = threading.Event(), threading.Event()
    real_write = os.write

    def hang(fd, data):
        is_writing.set()
        assert may_return.wait(TIMEOUT_S)
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", hang)
    lines = sink("out", tmp_path.joinpath)
    lines.open()
    lines.send(make_result(7))
    assert is_writing.wait(TIMEOUT_S)
    thread = lines._thread._thread
    lines.close(timeout_s=0.0)
    assert not lines.statistics().is_connected
    assert LineOutput.live.count == before + 1
    may_return.set()
    thread.join(TIMEOUT_S)
    assert LineOutput.live.count == before
    assert json.loads((tmp_path / "out").read_text())["seq"] == 7
    assert lines.statistics().sent == 1


CHILD = """
import logging, sys, numpy as np
from edgert.frames.result import Classes, Result
from edgert.publish.factory import open_sink
from edgert.publish.options import LinesOptions
logging.basicConfig()
sink = open_sink("lines", LinesOptions(), "n", "b")
output = Classes(np.array([1.0]), np.array([0]), [])
for seq in range(100_000):
    sink.send(Result("s", seq, "m", 1, 0, 0, 1, 1, output))
    if sink.statistics().failed:
        break
sink.send(Result("s", seq, "m", 1, 0, 0, 1, 1, output))
sink.close(5.0)
statistics = sink.statistics()
print(statistics.failed > 0, statistics.is_connected, file=sys.stderr)
"""


def test_a_reader_like_head_is_a_counted_failure_and_no_crash():
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert json.loads(child.stdout.readline())["model"] == "m"
    child.stdout.close()
    said = child.stderr.read().decode()
    child.stderr.close()
    assert child.wait(TIMEOUT_S) == 0
    *warnings, last = said.splitlines()
    assert last == "True False"
    assert warnings == [
        "WARNING:edgert.publish.queued:Sink lines: standard output cannot be written: Broken pipe"
    ]
