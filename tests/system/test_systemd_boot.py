"""The service under a real systemd: started, reloaded, restarted, bounded and stopped by it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from tests.requirements_of import need_program
from tests.system import systemd_service
from tests.system.systemd_boot import Machine
from tests.system.systemd_service import EDGERT, Services

pytestmark = pytest.mark.system
PICTURE = np.full((8, 8, 3), 7, np.uint8)

# Tells what it may do, as any program in the place of edgert would find.
PROBE = """
import ctypes, errno, json, os, socket
from pathlib import Path

def tried(do):
    try:
        do()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def connect(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)

def listen():
    with socket.create_server(("127.0.0.1", 0)):
        pass

def share(path):
    with open(path, "r+b") as item:
        item.write(item.read()[::-1])

def thread_policy():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

def unshare():
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")

credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
folders = {name: os.environ[name + "_DIRECTORY"] for name in ("STATE", "CACHE", "RUNTIME", "CONFIGURATION")}
found = {
    "status": {key: status[key].strip() for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Uid")},
    "folders": folders,
    "writes": {place: tried(lambda: Path(place, "probe").touch())
               for place in (*folders.values(), "/usr", "/srv/edgert", "/tmp", "/etc", os.environ["TMPDIR"])},
    "devices": {path: tried(lambda: os.close(os.open(path, os.O_RDONLY)))
                for path in ("/dev/nvmap", "/dev/other", "/dev/null")},
    "homes": {place: tried(lambda: os.listdir(place)) for place in ("/root", "/home")},
    "argus": tried(lambda: connect("/tmp/argus_socket")),
    "shared": {name: tried(lambda: share("/dev/shm/" + name)) for name in ("for_all", "of_others")},
    "listens": tried(listen),
    "packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
    "real_time": tried(thread_policy),
    "namespace": tried(unshare),
    "credentials": {path.name: path.read_text() for path in credentials.iterdir()},
    "secret": tried(lambda: Path("/etc/edgert/credentials/mqtt").read_text()),
}
Path(folders["STATE"], "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def allowed():
    """Skip where no systemd can be started; asked here, as collecting tests is to start nothing."""
    need_program("systemctl", "systemd")
    if reason := systemd_service.why_not():
        pytest.skip(f"no systemd can be started here: {reason}")


@pytest.fixture(scope="module")
def services(allowed):
    with closing(Machine()) as machine:
        yield Services(machine)


@pytest.fixture
def running(services):
    """Return a function that starts a pipeline and returns its unit; it is stopped afterwards."""
    units = []

    def start(name, pipeline="", drop_in="", **options):
        unit = services.add(name, pipeline, drop_in, **options)
        units.append(unit)
        services.start(unit)
        return unit

    yield start
    services.machine.systemctl("stop", *units)


def test_install_has_made_the_user_and_told_systemd(services):
    assert (services.installed.returncode, services.installed.stderr) == (0, "")
    assert services.machine.run("id", "-nG", "edgert").stdout.split() == ["edgert"]
    loaded = services.machine.show("edgert@x.service", "LoadState", "User", "DevicePolicy", "DropInPaths")
    assert (loaded["LoadState"], loaded["User"], loaded["DevicePolicy"]) == ("loaded", "edgert", "closed")
    assert "20-devices.conf" in loaded["DropInPaths"]


def test_a_pipeline_gets_ready_and_answers(services, running):
    """With ONNX Runtime as the engine, so all that it needs is allowed."""
    unit = running("door", models="mean")
    shown = services.machine.show(unit, "ActiveState", "SubState", "StatusText", "NRestarts")
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    assert "1 of 1 models ready" in shown["StatusText"]
    with services.client("door") as client:
        result = client.infer(PICTURE, "mean")
    assert result["model"] == "mean"
    owner = services.machine.path("/run/edgert/door/requests").stat()
    assert oct(owner.st_mode)[-3:] == "770"


def test_the_journal_has_priorities_and_one_clock(services, running):
    unit = running("logged")
    machine = services.machine
    assert re.search(r"^info    service: ready after", machine.journal(unit), re.MULTILINE)
    weighty = ("journalctl", "--no-pager", "-o", "cat", "-p", "warning", "-u", unit)
    assert "ready after" not in machine.run(*weighty).stdout


def test_the_service_can_do_nothing_that_it_need_not(services):
    machine = services.machine
    (services.folder / "probe.py").write_text(PROBE)
    secret = machine.path("/etc/edgert/credentials/mqtt")
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    given = machine.run(
        EDGERT, "systemd", "install", "probe", "--credential", "mqtt=/etc/edgert/credentials/mqtt"
    )
    assert given.returncode == 0, given.stderr
    unit = services.add(
        "probe", drop_in=f"Type=oneshot\nExecStart=\nExecStart={sys.executable} /srv/edgert/probe.py"
    )
    for name, mode in (("for_all", 0o666), ("of_others", 0o600)):  # as clients of [serve] make them
        item = machine.path(f"/dev/shm/{name}")
        item.write_bytes(b"shared")
        item.chmod(mode)
    with services.listening("/tmp/argus_socket"):
        services.start(unit)
    found = json.loads(machine.path("/var/lib/edgert/probe/found.json").read_text())
    assert found["status"] | {"Uid": ""} == {
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "Uid": "",
    }
    assert "0" not in found["status"]["Uid"].split()
    assert found["folders"] == {
        "STATE": "/var/lib/edgert/probe",
        "CACHE": "/var/cache/edgert",
        "RUNTIME": "/run/edgert/probe",
        "CONFIGURATION": "/etc/edgert",
    }
    assert found["writes"] == {
        "/var/lib/edgert/probe": "done",
        "/var/cache/edgert": "done",
        "/run/edgert/probe": "done",
        "/etc/edgert": "EACCES",
        "/usr": "EROFS",
        "/srv/edgert": "EROFS",
        "/tmp": "EROFS",
        "/etc": "EROFS",
    }
    assert found["devices"]["/dev/null"] == "done"
    assert found["devices"]["/dev/other"] == "EPERM"  # anyone may open it, but for the device policy
    assert found["devices"]["/dev/nvmap"] not in ("EPERM", "EACCES")  # by the group video
    assert found["argus"] == "done"
    assert found["listens"] == "done"
    assert found["shared"] == {"for_all": "done", "of_others": "EACCES"}
    assert machine.path("/dev/shm/for_all").read_bytes() == b"sharedderahs"
    assert found["packets"] in ("EAFNOSUPPORT", "EPERM")
    assert (found["real_time"], found["namespace"]) == ("EPERM", "EPERM")
    assert found["credentials"] == {"mqtt": "hunter2\n"}
    assert found["secret"] == "EACCES"
    homes = {name: state for name, state in found["homes"].items() if state != "done"}
    assert homes in ({}, {"/root": "EACCES", "/home": "EACCES"})  # hidden, or empty but for edgert


def test_a_credential_reaches_the_pipeline_and_its_absence_is_not_tried_again(services, running):
    machine = services.machine
    sink = '[sinks.b]\ntype = "mqtt"\nhost = "127.0.0.1"\nuser = "me"\npassword_file = "mqtt"\n'
    machine.path("/etc/edgert/credentials/mqtt").write_text("hunter2\n")
    given = machine.run(
        EDGERT, "systemd", "install", "given", "--credential", "mqtt=/etc/edgert/credentials/mqtt"
    )
    assert given.returncode == 0, given.stderr
    unit = running("given", sink)
    assert machine.show(unit, "ActiveState")["ActiveState"] == "active"
    without = services.add("without", sink, "RestartSec=100ms")
    assert machine.systemctl("start", without).returncode == 1
    shown = machine.show(without, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}
    assert "password_file" in machine.journal(without)


ASK = """
import http.client, sys
for headers in ({}, {"Authorization": "Bearer s3cret"}):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    connection.request("GET", "/v2/health/ready", headers=headers)
    print(connection.getresponse().status)
"""


def test_the_server_s_token_is_a_credential(services, running):
    pytest.importorskip("httptools")
    machine = services.machine
    place = "/etc/edgert/credentials/token"
    machine.path(place).write_text("s3cret\n")
    machine.path(place).chmod(0o600)
    install = (EDGERT, "systemd", "install", "served", "--credential", f"serve-token={place}")
    assert machine.run(*install).returncode == 0
    running("served", '[http]\nport = 0\n[serve]\ntoken = "serve-token"\n')
    (address,) = re.findall(r"serve: http://127\.0\.0\.1:(\d+)", machine.journal("edgert@served.service"))
    asked = machine.run(sys.executable, "-c", ASK, address)
    assert asked.stdout.split() == ["401", "200"], asked.stderr


def test_a_reload_takes_the_new_file_and_a_wrong_one_changes_nothing(services, running):
    machine = services.machine
    unit = running("reload")
    before = machine.show(unit, "MainPID")
    services.add("reload", models="mean")
    assert machine.systemctl("reload", unit).returncode == 0
    with services.client("reload") as client:
        assert until(lambda: answers(client, "mean"))
    file = machine.path("/etc/edgert/reload.toml")
    file.write_text(file.read_text() + "[nonsense]\n")
    machine.systemctl("reload", unit)
    assert until(lambda: "nonsense" in machine.journal(unit))
    with services.client("reload") as client:
        assert answers(client, "mean")
    assert machine.show(unit, "MainPID") == before
    assert machine.show(unit, "ActiveState")["ActiveState"] == "active"


def test_a_hung_lane_gets_the_process_restarted(services, running):
    machine = services.machine
    limits = "[service]\nhang_s = 1.0\n"
    unit = running("hang", limits, f"WatchdogSec=2\nRestartSec=100ms\n{services.misbehaving}")
    first = machine.show(unit, "MainPID")
    with services.client("hang") as client:
        client.infer(PICTURE)
        with services.asked_for("hang"):
            client.send(PICTURE)
            machine.await_property(unit, "NRestarts", "1")
        machine.await_property(unit, "ActiveState", "active")
        assert until(lambda: answers(client, "noop"))
    assert machine.show(unit, "MainPID") != first
    log = machine.journal(unit)
    assert "Watchdog timeout" in log
    assert "lane" in log.split("Watchdog timeout")[0]  # edgert has named what hung


def test_an_absent_camera_and_broker_restart_nothing(services, running):
    absent = (
        '[sources.camera]\nuri = "v4l2:/dev/video9"\nmodels = ["noop"]\n'
        '[sinks.b]\ntype = "mqtt"\nhost = "127.0.0.1"\nport = 9\n[service]\nhang_s = 0.5\n'
    )
    unit = running("absent", absent, "WatchdogSec=1")
    time.sleep(3.0)  # three times what the watchdog allows
    shown = services.machine.show(unit, "ActiveState", "NRestarts", "StatusText")
    assert (shown["ActiveState"], shown["NRestarts"]) == ("active", "0")
    assert "1 of 2 sources online" in shown["StatusText"]


def test_a_process_over_its_memory_is_killed_and_started_again(services, running):
    if not has_memory_limit(services.machine):
        pytest.skip("this machine's cgroups have no memory controller")
    machine = services.machine
    drop_in = f"MemoryHigh=infinity\nMemoryMax=200M\nRestartSec=100ms\n{services.misbehaving}"
    unit = running("eat", drop_in=drop_in)
    with services.client("eat") as client:
        client.infer(PICTURE)
        with services.asked_for("eat"):
            client.send(PICTURE)
            machine.await_property(unit, "NRestarts", "1")
        machine.await_property(unit, "ActiveState", "active")
        assert until(lambda: answers(client, "noop"))
    assert "status=9/KILL" in machine.journal(unit)


@pytest.mark.parametrize("limit", ["", "TimeoutStopSec=200ms\n"], ids=["as shipped", "asking for more time"])
def test_a_stop_answers_the_work_in_flight(services, running, limit):
    machine = services.machine
    machine.path("/run/edgert/stop/begun").unlink(missing_ok=True)
    unit = running("stop", drop_in=f"{limit}{services.misbehaving}")
    answered = []
    with services.client("stop") as client, services.asked_for("slow"):
        asking = threading.Thread(target=lambda: answered.append(client.infer(PICTURE)))
        asking.start()
        assert until(machine.path("/run/edgert/stop/begun").exists)  # the lane takes 0.5 s
        machine.systemctl("stop", unit)
        asking.join(timeout=10)
    assert [result["model"] for result in answered] == ["noop"]
    log = machine.journal(unit)
    assert f"{unit}: Deactivated successfully" in log
    assert "Failed" not in log


def test_the_target_starts_and_stops_what_is_enabled(services):
    machine = services.machine
    units = [services.add(name) for name in ("one", "two")]
    machine.systemctl("enable", "edgert.target", *units)
    assert machine.systemctl("start", "edgert.target").returncode == 0
    for unit in units:
        machine.await_property(unit, "ActiveState", "active")
    machine.systemctl("stop", "edgert.target")
    for unit in units:
        machine.await_property(unit, "ActiveState", "inactive")


def test_remove_stops_everything_and_takes_it_away(allowed):
    with closing(Machine()) as machine:
        services = Services(machine)
        unit = services.add("door")
        machine.systemctl("enable", "--now", "edgert.target", unit)
        machine.await_property(unit, "ActiveState", "active")
        shutil.rmtree(machine.path("/etc/systemd/system/edgert@door.service.d"))  # the test's own
        done = machine.run(EDGERT, "systemd", "remove")
        assert (done.returncode, done.stderr) == (0, "")
        shown = machine.show(unit, "ActiveState", "LoadState")
        assert shown == {"ActiveState": "inactive", "LoadState": "not-found"}
        assert list(machine.path("/etc/systemd/system").rglob("*edgert*")) == []


def answers(client, model):
    try:
        return client.infer(PICTURE, timeout_s=2.0)["model"] == model
    except (TimeoutError, RuntimeError):
        return False


def until(is_so, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def has_memory_limit(machine):
    places = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/system.slice/memory.max")
    return any(machine.path(place).exists() for place in places)
