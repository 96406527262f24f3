"""`edgert systemd`, on root file systems of other machines."""

from __future__ import annotations

import configparser
import os
import shutil
from pathlib import Path

import pytest

from edgert.cli import main
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.systemd.board import RECORDED
from edgert.systemd.command import install, remove, show
from edgert.systemd.machine import Machine, run_tool
from edgert.systemd.plan import Request, shipped
from tests.unit.systemd.places import NotedMachine, make_root, tree

UNITS = "etc/systemd/system"
PACKAGED = Path("/opt/edgert/bin/edgert")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return NotedMachine(make_root(tmp_path))


def asked(*instances, board="orin", program=PACKAGED, credentials=()):
    return Request(instances, RECORDED[board], program, (), tuple(credentials))


def names(machine):
    return sorted(name for name in tree(machine.root) if name.startswith("etc/"))


def test_units_user_and_the_boards_drop_ins_are_written(machine):
    assert install(machine, asked("door")) == ExitCode.OK
    assert names(machine) == [
        f"{UNITS}/edgert.target",
        f"{UNITS}/edgert@.service",
        f"{UNITS}/edgert@.service.d/20-devices.conf",
        f"{UNITS}/edgert@.service.d/30-argus.conf",
        "etc/sysusers.d/edgert.conf",
        "etc/tmpfiles.d/edgert.conf",
    ]
    assert machine.ran == [
        ["systemd-sysusers", f"--root={machine.root}", "edgert.conf"],
        ["systemd-tmpfiles", f"--root={machine.root}", "--create", "edgert.conf"],
    ]


def test_again_changes_nothing_and_says_so(machine, capsys):
    install(machine, asked("door"))
    before = {name: (machine.root / name).stat().st_mtime_ns for name in names(machine)}
    capsys.readouterr()
    assert install(machine, asked("door")) == ExitCode.OK
    assert {name: (machine.root / name).stat().st_mtime_ns for name in names(machine)} == before
    said = capsys.readouterr().out
    assert said.count("unchanged: ") == len(before)
    assert "written" not in said


def test_a_hand_edited_unit_is_kept_said_and_decides_the_exit_code(machine, capsys):
    install(machine, asked())
    unit = machine.root / UNITS / "edgert@.service"
    unit.write_text(unit.read_text().replace("RestartSec=5", "RestartSec=60"))
    edited = unit.read_bytes()
    (machine.root / UNITS / "edgert.target").unlink()
    capsys.readouterr()
    assert install(machine, asked()) == ExitCode.CONFIG
    assert unit.read_bytes() == edited
    assert (machine.root / UNITS / "edgert.target").exists()  # the rest is put in order
    said = capsys.readouterr().out
    assert f"kept: {unit}" in said
    assert "delete it and install again" in said


def test_a_unit_that_somebody_else_has_written_is_kept_too(machine):
    unit = machine.root / UNITS / "edgert@.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert install(machine, asked()) == ExitCode.CONFIG
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


def test_a_masked_unit_stays_masked(machine):
    unit = machine.root / UNITS / "edgert@.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    assert install(machine, asked()) == ExitCode.CONFIG
    assert str(unit.readlink()) == "/dev/null"


def test_a_newer_edgert_replaces_what_an_older_one_wrote(machine, capsys):
    install(machine, asked(board="none"))
    capsys.readouterr()
    assert install(machine, asked(board="thor")) == ExitCode.OK
    said = capsys.readouterr().out
    assert f"updated: {machine.root / UNITS}/edgert@.service.d/20-devices.conf" in said
    assert "char-nvidia-uvm" in (machine.root / UNITS / "edgert@.service.d/20-devices.conf").read_text()
    assert (machine.root / "etc/modules-load.d/edgert.conf").read_text().endswith("\nnvidia-uvm\n")


def test_what_the_machine_no_longer_needs_is_removed(machine):
    install(machine, asked(board="thor", program=Path("/srv/bin/edgert")))
    own = machine.root / UNITS / "edgert@.service.d/override.conf"
    own.write_text("[Service]\nMemoryMax=1G\n")
    install(machine, asked(board="none"))
    left = names(machine)
    assert f"{UNITS}/edgert@.service.d/10-program.conf" not in left
    assert f"{UNITS}/edgert@.service.d/30-argus.conf" not in left
    assert "etc/modules-load.d/edgert.conf" not in left
    assert own.exists()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (249, []),
        (252, []),
        (253, ["40-systemd-253.conf"]),
        (255, ["40-systemd-253.conf", "41-systemd-254.conf"]),
    ],
)
def test_a_newer_systemd_gets_what_it_can_do(tmp_path, version, expected):
    machine = NotedMachine(make_root(tmp_path, version))
    install(machine, asked(board="none"))
    found = (machine.root / UNITS / "edgert@.service.d").iterdir()
    assert sorted(path.name for path in found if "systemd" in path.name) == expected


def test_a_packages_units_are_left_to_the_package(machine):
    for place in ("usr/lib/systemd/system/edgert@.service", "usr/lib/sysusers.d/edgert.conf"):
        path = machine.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    install(machine, asked(board="none"))
    assert names(machine) == [f"{UNITS}/edgert@.service.d/20-devices.conf", "etc/tmpfiles.d/edgert.conf"]


def test_credentials_are_the_instances_and_stay_until_they_are_given_anew(machine):
    secret = machine.root / "etc/edgert/credentials/mqtt"
    secret.parent.mkdir(parents=True)
    secret.write_text("hunter2\n")
    given = asked("door", credentials=["mqtt-password=/etc/edgert/credentials/mqtt"])
    install(machine, given)
    drop_in = machine.root / UNITS / "edgert@door.service.d/50-credentials.conf"
    assert "LoadCredential=mqtt-password:/etc/edgert/credentials/mqtt\n" in drop_in.read_text()
    assert "hunter2" not in drop_in.read_text()
    install(machine, asked("door"))
    assert drop_in.exists()


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("mqtt", "expected NAME=FILE"),
        ("a/b=/etc/hostname", "expected NAME=FILE"),
        ("mqtt=relative", "an absolute path"),
        ("mqtt=/50%/x", "an absolute path"),
        ("mqtt=/missing", "there is no file"),
    ],
)
def test_a_wrong_credential_writes_nothing(machine, credential, said):
    with pytest.raises(ConfigError, match=said):
        install(machine, asked("door", credentials=[credential]))
    assert names(machine) == []


def test_credentials_need_an_instance_and_a_systemd_that_has_them(tmp_path):
    with pytest.raises(ConfigError, match="for which instance"):
        install(NotedMachine(make_root(tmp_path / "a")), asked(credentials=["a=/b"]))
    with pytest.raises(ConfigError, match="needs systemd 247 or later; there is 245"):
        install(NotedMachine(make_root(tmp_path / "b", 245)), asked("door", credentials=["a=/b"]))


def test_remove_leaves_nothing_of_ours_and_all_else(machine):
    other = machine.root / UNITS / "other.service"
    other.parent.mkdir(parents=True)
    other.write_text("[Service]\n")
    own = machine.root / UNITS / "edgert@.service.d/override.conf"
    own.parent.mkdir()
    own.write_text("[Service]\n")
    before = tree(machine.root)
    (machine.root / "etc/hostname").write_text("h")
    install(machine, asked("door", credentials=["a=/etc/hostname"], program=Path("/srv/bin/edgert")))
    enable(machine, "edgert.target.wants/edgert@door.service", "multi-user.target.wants/edgert.target")
    enable(machine, "multi-user.target.wants/other.service")
    assert remove(machine) == ExitCode.OK
    (machine.root / "etc/hostname").unlink()
    left = tree(machine.root)
    assert left.pop(f"{UNITS}/multi-user.target.wants/other.service")
    assert left == before
    assert not (machine.root / UNITS / "edgert@door.service.d").exists()
    assert not (machine.root / UNITS / "edgert.target.wants").exists()


def test_remove_keeps_what_was_edited_and_the_links_to_it(machine, capsys):
    install(machine, asked("door"))
    unit = machine.root / UNITS / "edgert@.service"
    unit.write_text(unit.read_text() + "# mine\n")
    enable(machine, "edgert.target.wants/edgert@door.service", "multi-user.target.wants/edgert.target")
    assert remove(machine) == ExitCode.CONFIG
    assert names(machine) == [f"{UNITS}/edgert.target.wants/edgert@door.service", f"{UNITS}/edgert@.service"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"{unit} is not as edgert wrote it, so it stays. If nobody needs it, delete it."


def test_remove_of_one_instance_leaves_the_others(machine):
    (machine.root / "etc").mkdir()
    (machine.root / "etc/hostname").write_text("h")
    install(machine, asked("door", "yard", credentials=["a=/etc/hostname"]))
    enable(machine, "edgert.target.wants/edgert@door.service", "edgert.target.wants/edgert@yard.service")
    before = names(machine)
    assert remove(machine, ("door",)) == ExitCode.OK
    gone = set(before) - set(names(machine))
    assert gone == {
        f"{UNITS}/edgert.target.wants/edgert@door.service",
        f"{UNITS}/edgert@door.service.d/50-credentials.conf",
    }


def test_remove_twice_is_as_good_as_once(machine, capsys):
    install(machine, asked())
    remove(machine)
    capsys.readouterr()
    assert remove(machine) == ExitCode.OK
    assert "nothing of edgert's to remove" in capsys.readouterr().out


def test_show_prints_what_install_would_write_and_writes_nothing(machine, capsys):
    before = tree(machine.root)
    assert show(machine, asked("door")) == ExitCode.OK
    shown = capsys.readouterr().out
    assert tree(machine.root) == before
    install(machine, asked("door"))
    for name in names(machine):
        assert f"# {machine.root / name}: new\n" in shown
        assert (machine.root / name).read_text().split("\n", 1)[1] in shown


class ThisMachine(NotedMachine):
    """A root file system that passes for the one of this machine."""

    is_image = False
    is_running = True


@pytest.mark.parametrize("action", [lambda machine: install(machine, asked()), remove])
def test_a_machine_without_systemd_is_told_so(tmp_path, action):
    with pytest.raises(
        ConfigError, match=r"no systemd on this machine\. Start edgert another way: edgert run"
    ):
        action(ThisMachine(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_image_may_get_its_systemd_later(tmp_path, capsys):
    assert install(NotedMachine(tmp_path), asked()) == ExitCode.OK
    assert "no systemd yet" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="there is no such folder"):
        install(NotedMachine(tmp_path / "missing"), asked())


def test_where_systemds_tools_are_missing_an_image_is_left_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    machine = NotedMachine(tmp_path)
    assert install(machine, asked()) == ExitCode.OK
    assert machine.ran == []
    assert "on its first start: systemd-sysusers edgert.conf" in capsys.readouterr().out


def test_a_running_systemd_is_told_and_the_next_commands_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine = ThisMachine(make_root(tmp_path))
    install(machine, asked("door"))
    assert machine.ran[-1] == ["systemctl", "daemon-reload"]
    said = capsys.readouterr().out
    assert f"{PACKAGED} check {tmp_path}/etc/edgert/door.toml" in said
    assert "systemctl enable --now edgert.target edgert@door.service" in said
    remove(machine)
    assert machine.ran[-2:] == [
        ["systemctl", "stop", "edgert@*.service", "edgert.target"],
        ["systemctl", "daemon-reload"],
    ]


def test_what_runs_is_to_be_restarted_only_after_a_change(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine = ThisMachine(make_root(tmp_path))
    said = []
    for board in ("none", "none", "thor", "none"):
        install(machine, asked("door", board=board))
        said.append("systemctl try-restart 'edgert@*.service'" in capsys.readouterr().out)
    assert said == [False, False, True, True]


def test_an_image_without_edgert_is_to_get_it(machine, capsys):
    install(machine, asked())
    missing = machine.root / "opt/edgert/bin/edgert"
    assert f"install edgert's package in the image: there is no {missing}" in capsys.readouterr().out
    missing.parent.mkdir(parents=True)
    missing.touch()
    install(machine, asked())
    assert "install edgert's package" not in capsys.readouterr().out


def test_a_package_that_brings_the_units_takes_them_over(machine):
    install(machine, asked())
    unit = machine.root / "usr/lib/systemd/system/edgert@.service"
    unit.parent.mkdir()
    unit.touch()
    install(machine, asked())
    assert not (machine.root / UNITS / "edgert@.service").exists()
    assert not (machine.root / UNITS / "edgert.target").exists()


def test_an_image_needs_a_board(tmp_path, capsys):
    assert main(["systemd", "show", "--root", str(make_root(tmp_path))]) == ExitCode.CONFIG
    assert "Add: --board orin | thor | none" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../etc", "a b", "", "-x@", "a/b"])
def test_a_name_that_no_pipeline_has_is_refused(tmp_path, capsys, name):
    arguments = ["systemd", "show", "--root", str(make_root(tmp_path)), "--board", "none", "--", name]
    assert main(arguments) == ExitCode.CONFIG
    assert "expected a pipeline's name" in capsys.readouterr().err


def test_only_root_may_change_this_machine(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="Run: sudo /x/edgert systemd install"):
        Machine(Path("/")).demand_rights("install", Path("/x/edgert"))


def test_a_read_only_image_is_said_and_left_alone(machine, monkeypatch):
    def refuse(path, *_):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match="Read-only file system"):
        install(machine, asked())
    assert names(machine) == []
    assert machine.ran == []


def test_a_systemd_program_that_is_missing_or_fails_is_said():
    with pytest.raises(ConfigError, match="no-such-tool is not installed here"):
        run_tool(["no-such-tool", "x"])
    with pytest.raises(ConfigError, match=r"sh -c 'echo no >&2; exit 3' failed: no"):
        run_tool(["sh", "-c", "echo no >&2; exit 3"])


def test_the_shipped_unit_ends_only_what_a_new_start_cannot_mend():
    service = read_unit("edgert@.service")["Service"]
    prevented = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert prevented == {ExitCode.CONFIG, ExitCode.MODEL}


def test_the_shipped_unit_gives_a_stop_more_time_than_the_work_in_flight():
    from edgert.pipeline.options import ServiceOptions

    service = read_unit("edgert@.service")["Service"]
    assert float(service["TimeoutStopSec"]) >= 2 * ServiceOptions().drain_s


def read_unit(name):
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(shipped(name))
    return parser


def enable(machine, *links):
    for link in links:
        path = machine.root / UNITS / link
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(f"/etc/systemd/system/{path.name}")
