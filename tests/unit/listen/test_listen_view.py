"""The text that a person reads."""

from __future__ import annotations

import pytest

from edgert.listen.layout import width_of
from edgert.listen.payloads import Findings
from edgert.listen.view import clock, event_line, findings_text, live_lines, result_line, summary_lines
from edgert.listen.watch import Watch
from edgert.publish.session import Received
from tests.unit.listen.heard import CONNECTED, at, label, message, retained

KEY = ("n", "porch", "m")
BIRTH = b'{"boot":"b1","versions":{"edgert":"0.4","python":"3.12"}}'


@pytest.fixture
def watch():
    """Two cats at 0, a gap of 2, a duplicate; one node with a source and a model."""
    watch = Watch("edgert")
    watch.feed(retained("edgert/n/state", b"ready"), at(0))
    watch.feed(retained("edgert/n/birth", BIRTH), at(0))
    watch.feed(Received("edgert/n/source/porch/state", b'{"state":"offline","reason":"no route"}'), at(0.5))
    watch.feed(Received("edgert/n/model/m/state", b'{"state":"READY","versions":[3]}'), at(0.5))
    found = [label("cat", 0.5), label("cat", 0.75), label("dog", 0.25)]
    for seq in (0, 1, 4, 4):
        watch.feed(message(seq, detections=found, latency_ms=1.5), at(1))
    return watch


def rows_with(lines, text):
    return [joined(line) for line in lines if text in line]


def joined(line):
    """Return the line with one space between words."""
    return " ".join(line.split())


def test_live_lines_say_everything(watch):
    lines = live_lines(watch, CONNECTED, at(2), 200, has_color=False)
    assert lines[0] == f"{clock(at(2).utc_ns, at(2))}  connected to it"
    found, begin = clock(at(0.5).utc_ns, at(2)), clock(at(0).utc_ns, at(2))
    node = rows_with(lines, "edgert 0.4")[0]
    assert node == f"n ready before {begin} edgert 0.4, python 3.12, boot b1"
    assert rows_with(lines, "source porch") == [f"source porch offline {found} no route"]
    assert rows_with(lines, "model m") == [f"model m READY {found} version 3"]
    header, figures = rows_with(lines, "rate/s")[0], rows_with(lines, "2 cat")[0]
    assert header == "node source/model rate/s p50 ms p99 ms last miss dup late hist results"
    assert figures == "n porch/m 3.0 1.5 1.5 2 cat, dog 0.75 2 1 0 0 4"


def test_before_anything_was_heard():
    lines = live_lines(Watch("edgert"), CONNECTED, at(0), 80, has_color=False)
    assert "no node was heard yet" in lines
    assert "no result was heard yet" in lines
    assert summary_lines(Watch("edgert"), 1.0, at(0), 80, has_color=False) == [
        "listened for 1.0 s: 0 results"
    ]


def test_colour_says_how_a_state_is(watch):
    text = "\n".join(live_lines(watch, CONNECTED, at(2), 200, has_color=True))
    assert "\x1b[32mready\x1b[0m" in text
    assert "\x1b[31moffline\x1b[0m" in text
    assert "\x1b" not in "\n".join(live_lines(watch, CONNECTED, at(2), 200, has_color=False))


def test_a_usual_terminal_shows_findings_and_what_is_wrong(watch):
    header = live_lines(watch, CONNECTED, at(2), 79, has_color=False)[-3]
    assert joined(header) == "node source/model rate/s p50 ms p99 ms last miss dup late hist"


@pytest.mark.parametrize("width", [10, 40, 80])
def test_no_line_is_wider_than_the_terminal(watch, width):
    watch.feed(Received("edgert/n/birth", b"x" * 500), at(1))
    lines = live_lines(watch, CONNECTED, at(2), width, has_color=False)
    assert all(width_of(line) <= width for line in lines)


def test_a_summary_has_totals_and_the_mean_rate(watch):
    lines = summary_lines(watch, 8.0, at(9), 200, has_color=False)
    assert lines[0] == "listened for 8.0 s: 4 results"
    assert joined(lines[-1]) == "n porch/m 4 0.5 1.5 1.5 1.5 2 1 0 0"


def test_without_a_live_result_there_is_no_latency():
    watch = Watch("edgert")
    watch.feed(message(0, historical=True), at(0))
    assert summary_lines(watch, 1.0, at(1), 200, has_color=False)[-1].split()[4:7] == ["-", "-", "-"]
    line = result_line(KEY, watch.results[KEY], at(1))
    assert line.endswith(" n porch/m: 1.0/s, 1 results, 1 historical; no live result")


def test_a_line_of_a_log(watch):
    line = result_line(KEY, watch.results[KEY], at(2))
    time = clock(at(2).utc_ns, at(2))
    figures = "3.0/s, 4 results, p50 1.5 p99 1.5 ms, 2 missing, 1 duplicate; 2 cat, dog 0.75"
    assert line == f"{time} n porch/m: {figures}"


@pytest.mark.parametrize(
    ("topic", "payload", "said"),
    [
        ("state", b"lost", "n is lost"),
        ("source/s/state", b'{"state":"offline","reason":"gone"}', "n source s is offline: gone"),
        ("birth", BIRTH, "n was born with edgert 0.4, python 3.12"),
        ("model/m/state", b"", "n model m was removed"),
        ("state", b"\x1b[2J", "n sent what cannot be read: '\\x1b[2J' is no state of a node"),
        ("source/\x1b]0;x/state", b'{"state":"\\u001b[2J"}', "n source \ufffd]0;x is \ufffd[2J"),
    ],
)
def test_what_happened_is_a_line(topic, payload, said):
    event = Watch("edgert").feed(Received(f"edgert/n/{topic}", payload), at(0))
    assert event_line(event, at(0)) == f"{clock(at(0).utc_ns, at(0))} {said}"


def test_payloads_that_could_not_be_read_are_shown(watch):
    for _ in range(3):
        watch.feed(Received("edgert/n/source/\x1b/result/m", b"nonsense"), at(1))
    for lines in (
        live_lines(watch, CONNECTED, at(2), 300, has_color=True),
        summary_lines(watch, 1.0, at(2), 300, has_color=False),
    ):
        assert lines[-1].startswith(
            "3 messages could not be read; the last: edgert/n/source/\ufffd/result/m: "
        )


def test_restarts_are_shown(watch):
    watch.feed(Received("edgert/n/birth", b'{"boot":"b2"}'), at(2))
    lines = live_lines(watch, CONNECTED, at(2), 200, has_color=False)
    assert rows_with(lines, "boot b2, 1 restarts")


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (Findings("detections", (("cat", 1),), 1, 0.333), "cat 0.33"),
        (Findings("detections", (("\x1b", 2),), 2, None), "2 \ufffd"),
        (Findings("detections", (), 0), "no detections"),
        (Findings("tensors", (), 2), "2 tensors"),
        (Findings(), "no live result"),
    ],
)
def test_findings(findings, text):
    assert findings_text(findings) == text


def test_a_time_of_another_day_has_its_date():
    assert len(clock(at(0).utc_ns, at(3600))) == len("12:00:00")
    assert clock(at(0).utc_ns, at(86_401)).startswith("2027-01-1")
