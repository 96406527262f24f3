"""When and where it is shown."""

from __future__ import annotations

import io
import os

import pytest

from edgert.listen.display import Lines, Screen
from edgert.listen.json_lines import JsonLines
from edgert.listen.link import LinkState
from edgert.listen.watch import Watch
from edgert.publish.session import Received
from tests.unit.listen.heard import CONNECTED, at, message

ENTER, LEAVE, HOME = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H"


@pytest.fixture
def watch():
    return Watch("edgert")


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that sets the terminal's size."""

    def resize(columns, lines):
        monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, lines)))

    resize(80, 24)
    return resize


def hear(display, watch, received, moment):
    display.heard(received, watch.feed(received, moment), moment)


# The terminal


def test_a_screen_is_redrawn_twice_a_second(watch, out, terminal):
    screen = Screen(out, has_color=False)
    screen.open()
    for tenth in range(21):
        screen.tick(watch, at(tenth / 10))
    assert out.getvalue().count(HOME) == 5
    assert out.getvalue().startswith(ENTER + HOME)


def test_a_change_of_state_is_drawn_at_once(watch, out, terminal):
    screen = Screen(out, has_color=False)
    screen.tick(watch, at(0))
    hear(screen, watch, message(0), at(0.1))
    screen.tick(watch, at(0.1))
    assert out.getvalue().count(HOME) == 1
    hear(screen, watch, Received("edgert/n/state", b"lost"), at(0.2))
    screen.tick(watch, at(0.2))
    screen.link_changed(LinkState(False, "connection lost: gone"), at(0.2))
    screen.tick(watch, at(0.2))
    assert out.getvalue().count(HOME) == 3
    assert "connection lost: gone" in out.getvalue()


def test_it_fits_the_terminal(watch, out, terminal):
    for number in range(100):
        watch.feed(message(0, topic=f"edgert/node{number}/source/s/result/m"), at(0))
    terminal(30, 10)
    Screen(out, has_color=False).tick(watch, at(0))
    lines = out.getvalue().replace(HOME, "").removesuffix("\x1b[J").split("\r\n")
    assert len(lines) == 10  # of which the last, where the cursor is, is empty
    assert lines[-2] == "... 198 lines more\x1b[K"
    assert all(len(line.removesuffix("\x1b[K")) < 30 for line in lines)


def test_a_notice_stands_where_the_nodes_would_be(watch, out, terminal):
    terminal(40, 24)
    screen = Screen(out, has_color=False)
    screen.tick(watch, at(0))
    screen.notice("nothing is heard of node 'n' below edgert/; no other")
    screen.tick(watch, at(0.1))
    assert "no node was heard yet" in out.getvalue().split(HOME)[1]
    assert "nothing is heard of node 'n' below edg…" in out.getvalue().split(HOME)[2]
    hear(screen, watch, Received("edgert/n/state", b"ready"), at(0.2))
    screen.tick(watch, at(0.2))
    assert "nothing is heard" not in out.getvalue().split(HOME)[3]


def test_a_screen_gives_the_terminal_back_once(watch, out, terminal):
    screen = Screen(out, has_color=False)
    screen.close()
    assert out.getvalue() == ""
    screen.open()
    screen.close()
    screen.close()
    assert out.getvalue() == ENTER + LEAVE
    screen.summarize(watch, 2.0, at(2))
    assert out.getvalue() == f"{ENTER}{LEAVE}listened for 2.0 s: 0 results\n"


# Lines of a log


def said(out):
    """Return the lines so far without their times, and forget them."""
    lines = [line.partition(" ")[2] for line in out.getvalue().splitlines()]
    out.seek(0)
    out.truncate()
    return lines


def test_a_line_a_second_for_what_has_news(watch, out):
    lines = Lines(out)
    lines.link_changed(CONNECTED, at(0))
    lines.tick(watch, at(0))
    assert said(out) == ["connected to it"]
    for tenth in range(1, 10):
        hear(lines, watch, message(tenth), at(tenth / 10))
        lines.tick(watch, at(tenth / 10))
    assert said(out) == []
    hear(lines, watch, message(0, topic="edgert/n/source/a/result/m"), at(1))
    lines.tick(watch, at(1))
    assert [line.split(":")[0] for line in said(out)] == ["n a/m", "n porch/m"]
    lines.tick(watch, at(2.5))
    assert said(out) == []
    hear(lines, watch, message(10), at(3))
    lines.tick(watch, at(3.6))
    assert [line.split(":")[0] for line in said(out)] == ["n porch/m"]


def test_a_state_is_a_line_when_it_is_news(watch, out):
    lines = Lines(out)
    for word in (b"ready", b"ready", b"lost"):
        hear(lines, watch, Received("edgert/n/state", word), at(0))
    assert said(out) == ["n is ready", "n is lost"]


def test_unreadable_payloads_are_a_line_a_second_at_most(watch, out):
    lines = Lines(out)
    lines.tick(watch, at(0))
    for tenth in range(30):
        hear(lines, watch, Received("edgert/n/state", b"?"), at(tenth / 10))
        lines.tick(watch, at(tenth / 10))
    counts = [line.split()[0] for line in said(out)]
    assert counts == ["11", "21"]
    lines.tick(watch, at(10))
    lines.tick(watch, at(20))
    assert [line.split()[0] for line in said(out)] == ["30"]


def test_the_summary_of_a_log_is_never_narrow(watch, out):
    watch.feed(message(0, topic=f"edgert/{'n' * 60}/source/s/result/m"), at(0))
    Lines(out).summarize(watch, 1.0, at(1))
    assert "n" * 60 in out.getvalue()
    assert "late" in out.getvalue()


@pytest.mark.parametrize("kind", [Lines, JsonLines])
def test_a_notice_goes_to_standard_error(out, capsys, kind):
    kind(out).notice("nothing is heard")
    assert (out.getvalue(), capsys.readouterr().err) == ("", "edgert: nothing is heard\n")
