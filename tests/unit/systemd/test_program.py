"""Which edgert the service starts, and that it can be read from inside the service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.systemd import program
from edgert.systemd.program import folders_in_homes, program_drop_in, running_program


@pytest.fixture
def make_program(tmp_path):
    def make(place):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    return make


def test_it_is_the_program_that_was_called(make_program, monkeypatch):
    called = make_program("bin/edgert")
    monkeypatch.setattr(sys, "argv", [str(called)])
    assert running_program() == called


def test_a_bundle_is_known_by_where_its_package_is(make_program, monkeypatch, tmp_path):
    """A launcher has started `lib/edgert/launch.py` with the system's Python."""
    launcher = make_program("bundle/bin/edgert")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bundle/lib/edgert/launch.py")])
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(
        program, "__file__", str(tmp_path / "bundle/lib/edgert/site/edgert/systemd/program.py")
    )
    assert running_program() == launcher


def test_a_program_that_cannot_be_run_is_not_taken(make_program, monkeypatch, tmp_path):
    make_program("bin/edgert").chmod(0o644)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin/edgert")])
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(program, "__file__", str(tmp_path / "lib/edgert/systemd/program.py"))
    monkeypatch.setattr(program.sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    if Path("/bin/edgert").exists():
        pytest.skip("this machine has /bin/edgert")
    with pytest.raises(ConfigError, match="--program FILE"):
        running_program()


def test_the_packages_line_is_replaced_not_added_to():
    text = program_drop_in(Path("/srv/edgert/bin/edgert"), [])
    assert "\nExecStart=\nExecStart=/srv/edgert/bin/edgert run /etc/edgert/%i.toml\n" in text
    assert "ProtectHome" not in text


def test_what_stands_in_a_home_is_shown_to_the_service_and_nothing_else_of_it():
    folders = [Path("/home/me/edgert/.venv"), Path("/root/python"), Path("/usr"), Path("/home/me/edgert")]
    text = program_drop_in(Path("/home/me/edgert/.venv/bin/edgert"), folders)
    assert text.endswith(
        "ProtectHome=tmpfs\nBindReadOnlyPaths=/home/me/edgert\nBindReadOnlyPaths=/root/python\n"
    )


@pytest.mark.parametrize("place", ["/tmp/x", "/var/tmp/venv"])
def test_what_stands_in_tmp_is_refused_with_a_place_that_would_do(place):
    with pytest.raises(ConfigError, match="has a /tmp of its own") as refused:
        folders_in_homes([Path(place)])
    assert "/opt/edgert, where its package puts it" in str(refused.value)
    assert folders_in_homes([Path("/srv/edgert"), Path("/opt/edgert")]) == ()


@pytest.mark.parametrize("bad", ["bin/edgert", "/a b/edgert", "/50%/edgert", "/a\nExecStart=/x"])
def test_a_path_that_systemd_would_read_otherwise_is_refused(bad):
    with pytest.raises(ConfigError, match="expected an absolute path"):
        program_drop_in(Path(bad), [])
