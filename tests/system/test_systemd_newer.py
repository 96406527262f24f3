"""What only a newer systemd can do, under one: a reload that waits, pauses that grow.

Where this machine's is older, $SYSTEMD_DEBS names a folder with another one's packages; see systemd_boot.
"""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np
import pytest

from edgert.systemd.machine import Machine as Installed
from tests.requirements_of import need_program
from tests.system import systemd_service
from tests.system.systemd_boot import Machine
from tests.system.systemd_service import Services

pytestmark = pytest.mark.system
PICTURE = np.full((8, 8, 3), 7, np.uint8)
PAUSES = 254  # the version that lets them grow; 253 has Type=notify-reload


@pytest.fixture(scope="module")
def services():
    need_program("systemctl", "systemd")
    if reason := systemd_service.why_not():
        pytest.skip(f"no systemd can be started here: {reason}")
    with closing(Machine()) as machine:
        version = Installed(machine.path("/")).systemd_version()
        if version < PAUSES:
            pytest.skip(f"systemd {version} is older than {PAUSES}; SYSTEMD_DEBS=FOLDER runs another one")
        yield Services(machine)


def test_install_adds_what_this_systemd_can_do_and_it_has_no_objections(services):
    machine = services.machine
    unit = services.add("plain")
    shown = machine.show(unit, "Type", "RestartSteps", "RestartMaxDelayUSec", "ReloadSignal", "ExecReload")
    assert shown == {
        "Type": "notify-reload",
        "RestartSteps": "5",
        "RestartMaxDelayUSec": "1min",
        "ReloadSignal": "1",
    }
    done = machine.run("systemd-analyze", "verify", "--man=no", unit)
    assert [line for line in done.stderr.splitlines() if "edgert" in line] == []


def test_a_reload_returns_when_the_new_file_is_in_force(services):
    """An older systemd returns as soon as it has sent the signal."""
    machine = services.machine
    unit = services.add("reload")
    services.start(unit)
    before = machine.show(unit, "MainPID")
    for models in ("mean", "noop", "mean"):
        services.add("reload", models=models)
        assert machine.systemctl("reload", unit).returncode == 0
        with services.client("reload") as client:
            assert client.infer(PICTURE, models)["model"] == models  # at once, without asking twice
    assert machine.show(unit, "MainPID", "ActiveState") == before | {"ActiveState": "active"}
    machine.systemctl("stop", unit)


def test_a_reload_of_a_wrong_file_ends_and_says_why(services):
    machine = services.machine
    unit = services.add("wrong")
    services.start(unit)
    services.add("wrong", "[nonsense]\n")
    began_s = time.monotonic()
    machine.systemctl("reload", unit)
    assert time.monotonic() - began_s < 10.0  # not until the unit's TimeoutStartSec
    shown = machine.show(unit, "ActiveState", "SubState", "StatusText")
    assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    assert "nonsense" in shown["StatusText"]
    machine.systemctl("stop", unit)


def test_what_fails_again_and_again_is_tried_less_often(services):
    machine = services.machine
    steps = "RestartSec=50ms\nRestartMaxDelaySec=400ms\nRestartSteps=3\n"
    unit = services.add("failing", drop_in=f"{steps}Type=simple\nExecStart=\nExecStart=/bin/false")
    machine.systemctl("start", unit)
    machine.await_property(unit, "NRestarts", "4")
    assert machine.show(unit, "RestartUSecNext")["RestartUSecNext"] == "400ms"
    machine.systemctl("stop", unit)
