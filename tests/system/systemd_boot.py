"""A real systemd as process 1, in namespaces of its own, over a throw-away copy of this machine's files.

Nothing is downloaded: the root file system is an overlay of `/`, its changes are in memory. Needs root,
overlays and cgroups that may be written; `why_not` says what is missing.

$SYSTEMD_DEBS is a folder with Debian packages of another systemd (systemd, libsystemd-shared, libsystemd0,
libudev1), which then runs in place of this machine's: so what only a newer one has is tried, too.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
BOOT_S = 20.0
_numbers = itertools.count(1)
_CONTROLLERS = ("memory", "devices", "pids", "name=systemd")  # of cgroups v1: what the units use

# $1: the folder for the root, $2: that of another systemd's packages or empty, then the cgroups, each as
# "fstype:options:place". Packages have folders lib and bin where a merged root has links into usr.
_BOOT = r"""
set -eu
root=$1 packages=$2 layers=/
shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/r"
if [ -n "$packages" ]; then
  layers="$root/other:/"
  for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$root/other"; done
  for name in lib bin sbin; do
    [ -d "$root/other/$name" ] || continue
    cp -a "$root/other/$name" "$root/other/usr/"
    rm -r "$root/other/$name"
  done
fi
mount -t overlay -o "lowerdir=$layers,upperdir=$root/upper,workdir=$root/work" overlay "$root/r"
cd "$root/r"
rm -rf etc/systemd/system var/lib/systemd run/* lib/systemd/system/*.wants etc/sysusers.d/edgert.conf
mkdir -p etc/systemd/system lib/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service ../systemd-journald.socket lib/systemd/system/sysinit.target.wants/
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty ptmx; do
  touch dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/shm dev/pts dev/mqueue
mount -t tmpfs shm dev/shm
ln -s /proc/self/fd dev/fd
touch dev/console
mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp
mount -t tmpfs -o mode=755 cg sys/fs/cgroup
shift
for word in "$@"; do
  kind=${word%%:*}; rest=${word#*:}; options=${rest%%:*}; place=${rest#*:}
  [ -z "$place" ] || mkdir -p "sys/fs/cgroup/$place"
  mount -t "$kind" ${options:+-o "$options"} cgroup "sys/fs/cgroup/$place"
done
ip link set lo up 2>/dev/null || true
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
mount --make-rshared /  # as systemd does outside of containers; credentials reach services that way
exec env -i container=edgert-test PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
  /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=0
"""


class Hierarchy:
    """One hierarchy of cgroups that is mounted here."""

    def __init__(self, mount: Path, kind: str, options: str, own: str) -> None:
        self.mount = mount
        self.kind = kind
        self.options = options
        self.own = own  # the group of this process

    @property
    def word(self) -> str:
        """How `_BOOT` takes it."""
        is_whole = self.mount == Path("/sys/fs/cgroup")
        return f"{self.kind}:{self.options}:{'' if is_whole else self.mount.name}"

    def group(self, name: str) -> Path:
        return self.mount / self.own.lstrip("/") / name


def hierarchies() -> list[Hierarchy]:
    """Return the cgroups' hierarchies that are mounted below /sys/fs/cgroup."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append(Hierarchy(Path(mount), kind, "", own.get("", "/")))
        elif kind == "cgroup":
            name = next((key for key in _CONTROLLERS if key in options.split(",") and key in own), None)
            if name is not None:
                said = f"none,{name}" if name.startswith("name=") else name
                found.append(Hierarchy(Path(mount), kind, said, own[name]))
    return found


@cache
def why_not() -> str:
    """Return what keeps a systemd from being started here; empty if nothing does."""
    if os.geteuid() != 0:
        return "not root"
    if not SYSTEMD.exists():
        return "no systemd installed"
    if missing := [tool for tool in ("unshare", "nsenter", "systemctl") if shutil.which(tool) is None]:
        return f"no {missing[0]}"
    if not hierarchies():
        return "no cgroups are mounted"
    try:
        machine = Machine()
    except (OSError, TimeoutError) as error:
        return f"namespaces, overlays or cgroups are not allowed: {error}"
    machine.close()
    return ""


class Machine:
    """A running systemd. Raises TimeoutError if it does not come up; close it."""

    def __init__(self) -> None:
        name = f"edgert-test-{os.getpid()}-{next(_numbers)}"
        self._groups = [hierarchy.group(name) for hierarchy in hierarchies()]
        self._folder = Path("/run", name) if Path("/run").is_dir() else Path("/tmp", name)
        self._process: subprocess.Popen | None = None
        self.pid = 0
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._folder.mkdir(parents=True)
        for group in self._groups:
            group.mkdir()
        enter = "".join(f"echo $$ > '{group}/cgroup.procs'; " for group in self._groups)
        self._process = subprocess.Popen(
            [
                *("sh", "-ec", enter + 'exec unshare -p -m -u -i -n -C -f --kill-child sh -ec "$@"', "enter"),
                *(_BOOT, "boot", str(self._folder), os.environ.get("SYSTEMD_DEBS", "")),
                *(hierarchy.word for hierarchy in hierarchies()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._await_boot()

    def _await_boot(self) -> None:
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TimeoutError(self._process.stdout.read().decode(errors="replace")[-500:])
            self.pid = self.pid or self._child()
            if self.pid and self.systemctl("is-active", "basic.target").stdout.strip() == "active":
                return
            time.sleep(0.05)
        raise TimeoutError(f"systemd was not up after {BOOT_S} s")

    def _child(self) -> int:
        """Return the pid of process 1 of the machine, as it is called outside; 0 until it is systemd."""
        outer = self._process.pid
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        names = {child: Path(f"/proc/{child}/comm").read_text().strip() for child in children}
        return next((int(child) for child, name in names.items() if name == "systemd"), 0)

    def close(self) -> None:
        """End all of it, and remove its cgroups."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # the kernel ends every process of the namespace with it
        if self._process is not None:
            if not self.pid:
                self._process.kill()
            self._process.wait(timeout=BOOT_S)
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        for group in self._groups:
            _remove_group(group)

    def path(self, inside: str | Path) -> Path:
        """Return where a file of the machine is for this process."""
        return Path(f"/proc/{self.pid}/root", str(inside).lstrip("/"))

    def run(self, *command: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess:
        """Run a command as root in the machine."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", *map(str, command)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            cwd="/",
        )

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        lines = self.systemctl("show", unit, "-p", ",".join(properties)).stdout.splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def await_property(self, unit: str, name: str, wanted: str, timeout_s: float = 30.0) -> float:
        """Wait until a property has a value; return how long that took. Raises TimeoutError."""
        started = time.monotonic()
        while (value := self.show(unit, name).get(name)) != wanted:
            if time.monotonic() - started > timeout_s:
                raise TimeoutError(f"{unit}: {name} is {value}, not {wanted}; its log:\n{self.journal(unit)}")
            time.sleep(0.02)
        return time.monotonic() - started


def _remove_group(group: Path) -> None:
    """Remove a cgroup with those below it, once the kernel has let go of their processes."""
    deadline = time.monotonic() + 5.0
    while group.exists() and time.monotonic() < deadline:
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                time.sleep(0.02)
