"""edgert, installed by its own command as a service of a machine that `systemd_boot` has started."""

from __future__ import annotations

import os
import socket
import stat
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

from edgert.client import Client
from tests.fakes.store import Site, mean_model
from tests.system import systemd_boot
from tests.system.systemd_boot import Machine

EDGERT = Path(sysconfig.get_path("scripts"), "edgert")
CLOSED, OPENED = os.makedev(10, 237), os.makedev(10, 229)  # loop-control, fuse: opening changes nothing

# Runs edgert with lanes that do what the files beside it ask for: `hang`, `eat` or `slow`.
MISBEHAVE = """
import os, sys, time
from pathlib import Path
from edgert.cli import main
from edgert.execute.noop_engine import NoopBufferSet

def run(self):
    here = Path(__file__).parent
    if (here / "slow").exists():
        Path(os.environ["RUNTIME_DIRECTORY"], "begun").touch()
        time.sleep(0.5)
    if (here / "eat").exists():
        eaten.append(bytearray(b"x" * (512 << 20)))
    while (here / "hang").exists():
        time.sleep(0.05)

eaten = []
NoopBufferSet.run = run
sys.exit(main())
"""


def why_not() -> str:
    """Return what keeps these tests from running here; empty if nothing does."""
    if any(Path(sys.prefix).is_relative_to(place) for place in ("/tmp", "/var/tmp")):
        return f"{sys.prefix} is in /tmp, and the service has one of its own"
    if not EDGERT.exists():
        return f"no {EDGERT}"
    return systemd_boot.why_not()


class Services:
    """A machine with edgert installed, and with a model store in /srv/edgert."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.path("/srv/edgert")
        self._add_devices()
        self.installed = machine.run(EDGERT, "systemd", "install")
        self.folder.mkdir(parents=True)
        site = Site(self.folder)
        site.add_noop()
        site.add("mean", mean_model(), config="max_batch_size: 4\n")
        (self.folder / "misbehave.py").write_text(MISBEHAVE)

    def _add_devices(self) -> None:
        """Make what `install` takes for a Tegra chip's nodes and for JetPack's camera daemon."""
        nodes = (("nvmap", 0o440, "video", OPENED), ("other", 0o666, "root", CLOSED))
        for name, mode, group, number in nodes:
            path = f"/dev/{name}"
            os.mknod(self.machine.path(path), stat.S_IFCHR, number)
            self.machine.run("chown", f"root:{group}", path)
            self.machine.path(path).chmod(mode)
        unit = self.machine.path("/etc/systemd/system/nvargus-daemon.service")
        unit.write_text("[Service]\nExecStart=/bin/true\n")

    def add(self, name: str, pipeline: str = "", drop_in: str = "", *, models: str = "noop") -> str:
        """Write a pipeline that answers requests, and a drop-in; return the unit's name."""
        self.machine.path(f"/etc/edgert/{name}.toml").write_text(
            f'node = "{name}"\nstore = "/srv/edgert/store"\n'
            f'[sources.requests]\nuri = "{self.endpoint(name)}"\nmodels = ["{models}"]\n{pipeline}'
        )
        folder = self.machine.path(f"/etc/systemd/system/edgert@{name}.service.d")
        folder.mkdir(exist_ok=True)
        (folder / "90-test.conf").write_text(f"[Service]\n{drop_in}\n")
        self.machine.systemctl("daemon-reload")
        return f"edgert@{name}.service"

    @property
    def misbehaving(self) -> str:
        """The line of a drop-in that lets lanes misbehave when asked."""
        return f"ExecStart=\nExecStart={sys.executable} /srv/edgert/misbehave.py run /etc/edgert/%i.toml"

    def start(self, unit: str) -> None:
        """Start a unit. Raises RuntimeError with its log."""
        if self.machine.systemctl("start", unit).returncode:
            raise RuntimeError(self.machine.journal(unit))

    @staticmethod
    def endpoint(name: str) -> str:
        return f"router+bind:ipc:///run/edgert/{name}/requests"

    def client(self, name: str) -> Client:
        """Return a client of a pipeline; it reaches into the machine through /proc."""
        return Client(f"ipc://{self.machine.path(f'/run/edgert/{name}/requests')}")

    @contextmanager
    def asked_for(self, what: str):
        """Let lanes misbehave."""
        file = self.folder / what
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    @contextmanager
    def listening(self, path: str):
        """Listen on a Unix socket of the machine, made anew."""
        place = self.machine.path(path)
        place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            place.chmod(0o777)
            listener.listen()
            yield
