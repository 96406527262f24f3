"""A file that we have written is known again; one that was touched since is not."""

from __future__ import annotations

import pytest

from edgert.systemd.stamp import is_ours, stamped, state_of, without_stamp

TEXT = "[Service]\nRestartSec=5\n"


@pytest.fixture
def unit(tmp_path):
    path = tmp_path / "edgert@.service"
    path.write_bytes(stamped(TEXT))
    return path


def test_what_we_wrote_is_ours(unit):
    assert is_ours(unit)
    assert state_of(unit, stamped(TEXT)) == "unchanged"
    assert state_of(unit, stamped(TEXT + "x")) == "changed"


def test_the_stamp_is_a_comment_in_front_of_the_text(unit):
    first, rest = unit.read_text().split("\n", 1)
    assert first.startswith("# ")
    assert rest == TEXT
    assert without_stamp(unit.read_bytes()).decode() == TEXT


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content + b"RestartSec=9\n",
        lambda content: content.replace(b"=5", b"=6"),
        lambda content: content.split(b"\n", 1)[1],
        lambda content: content.replace(b"sha256 ", b"sha256  "),
        lambda _: b"",
    ],
)
def test_one_changed_byte_makes_it_somebody_elses(unit, edit):
    unit.write_bytes(edit(unit.read_bytes()))
    assert not is_ours(unit)
    assert state_of(unit, stamped(TEXT)) == "edited"


def test_a_link_is_never_ours_even_to_a_file_that_is(unit):
    """`systemctl mask` makes one to /dev/null."""
    link = unit.with_name("link")
    link.symlink_to(unit)
    assert not is_ours(link)
    dangling = unit.with_name("dangling")
    dangling.symlink_to("/nowhere")
    assert state_of(dangling, b"") == "edited"


def test_a_folder_in_its_place_is_not_ours(tmp_path):
    assert state_of(tmp_path, b"") == "edited"


def test_what_is_not_there_is_new(tmp_path):
    assert state_of(tmp_path / "x", b"") == "new"
