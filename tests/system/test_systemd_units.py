"""What systemd's own tools say about the units as `edgert systemd install` leaves them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgert.systemd.board import RECORDED
from edgert.systemd.command import install
from edgert.systemd.machine import Machine
from edgert.systemd.plan import Request
from tests.requirements_of import need_program
from tests.unit.systemd.places import NotedMachine, make_root

pytestmark = pytest.mark.system

EXPOSURE_MAX = 20  # tenths: 2.0 of 10
PROGRAM = Path("/opt/edgert/bin/edgert")
SPECIAL = ("sysinit.target", "basic.target", "shutdown.target")  # every service's


@pytest.fixture(params=sorted(RECORDED))
def root(request, tmp_path):
    """A root file system with the service installed for a board."""
    need_program("systemd-analyze", "systemd")
    (make_root(tmp_path) / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("secret\n")
    for program in (PROGRAM, Path("/bin/kill")):
        path = tmp_path / program.relative_to("/")
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    places = tmp_path / "usr/lib/systemd/system"
    places.mkdir()
    for name in SPECIAL:
        (places / name).write_text("[Unit]\n")
    credentials = ("mqtt-password=/etc/hostname",)
    install(NotedMachine(tmp_path), Request(("door",), RECORDED[request.param], PROGRAM, (), credentials))
    return tmp_path


def analyze(root, *arguments):
    return subprocess.run(
        ["systemd-analyze", f"--root={root}", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_verify_finds_nothing_to_say(root):
    """Its exit code is 0 for keys that it does not know: only its silence counts."""
    done = analyze(root, "verify", "--man=no", "edgert@door.service", "edgert.target")
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)


def test_verify_would_have_found_a_misspelt_key(root):
    unit = root / "etc/systemd/system/edgert@.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "Unknown key 'WatchdogSecs'" in analyze(root, "verify", "--man=no", "edgert@door.service").stderr


def test_what_only_a_newer_systemd_knows_is_in_drop_ins_of_their_own(root):
    """Installed for 254 and read by the one that is here, which objects to nothing else."""
    (root / "usr/lib/systemd/libsystemd-shared-254.so").touch()
    install(NotedMachine(root), Request(("door",), RECORDED["none"], PROGRAM))
    said = analyze(root, "verify", "--man=no", "edgert@door.service").stderr.splitlines()
    here = Machine(Path("/")).systemd_version()
    assert [line.partition("edgert@.service.d/")[2].split(":")[0] for line in said] == [
        *["40-systemd-253.conf"] * (here < 253),
        *["41-systemd-254.conf", "41-systemd-254.conf"] * (here < 254),
    ]
    assert here >= 254 or "RestartSteps" in said[-2]


def test_the_service_is_exposed_no_more_than_was_allowed(root):
    done = analyze(root, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "edgert@door.service")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overall exposure level for edgert@door.service" in done.stdout


def test_a_service_that_gave_up_its_guards_would_be_over_the_limit(root):
    drop_in = root / "etc/systemd/system/edgert@door.service.d/99.conf"
    drop_in.write_text(
        "[Service]\nSystemCallFilter=\nProtectSystem=no\nNoNewPrivileges=no\nPrivateUsers=no\n"
    )
    done = analyze(root, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "edgert@door.service")
    assert done.returncode == 1


def test_links_that_systemctl_makes_are_found_and_removed(root):
    """With the real systemctl, so that its names are the ones that are looked for."""
    from edgert.systemd.command import remove

    units = ("edgert.target", "edgert@door.service")
    subprocess.run(["systemctl", f"--root={root}", "-q", "enable", *units], check=True, timeout=30)
    system = root / "etc/systemd/system"
    links = [path for path in system.rglob("*") if path.is_symlink()]
    assert sorted(link.name for link in links) == ["edgert.target", "edgert@door.service"]
    assert remove(NotedMachine(root)) == 0
    assert list(system.rglob("*")) == []
