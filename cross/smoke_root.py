"""A root file system of another architecture to run programs in, as long as a block lasts.

Linux namespaces of our own hold everything: the user who calls is root inside and needs no rights outside;
what is written stands in memory over the root, which is only read; qemu is made the interpreter of arm64
programs for these namespaces alone. When the block ends, or this process in whatever way, the kernel ends all
that runs inside, and the rest vanishes with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from cross.errors import CrossError
from edgert.errors import ClosedError

QEMU = "qemu-aarch64-static"
UNPACK_S = 120.0
INSIDE = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "DEBIAN_FRONTEND": "noninteractive",
}

# The first 20 bytes of an AArch64 program, whatever its ABI. The kernel's flag F opens qemu here and now, so
# that it need not be in the root; P keeps the program's own name.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_READY = "ready\n"
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
_ENTER = ("nsenter", "--user", "--mount", "--pid", "--preserve-credentials")

_SETUP = """
set -e
mount -t tmpfs -o size={size_mb}m none {scratch}
cd {scratch}
mkdir upper work root
mount -t overlay -o lowerdir={root},upperdir=upper,workdir=work,userxattr none root
mount -t proc none root/proc
mount -t tmpfs none root/dev
mkdir root/dev/shm
mount -t tmpfs -o mode=1777 none root/dev/shm
for device in {devices}; do : > root/dev/$device; mount --bind /dev/$device root/dev/$device; done
ln -s /proc/self/fd root/dev/fd
mkdir -p root/sys/devices/system/cpu
mount --bind /sys/devices/system/cpu root/sys/devices/system/cpu
{binds}
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' {registration} > /proc/sys/fs/binfmt_misc/register
echo {ready}
read end || true
"""


class ForeignRoot(AbstractContextManager["ForeignRoot"]):
    """Runs programs in `root`. `shown` are folders of this machine by the place where they appear, read-only.

    Raises:
        CrossError: on entering: qemu is missing, or this kernel does not allow it.
    """

    def __init__(self, root: Path, shown: Mapping[str, Path], size_mb: int = 2048) -> None:
        self._root = root
        self._shown = shown
        self._size_mb = size_mb
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> ForeignRoot:
        qemu = shutil.which(QEMU)
        if qemu is None:
            raise CrossError(f"{QEMU} is not installed: apt-get install qemu-user-static")
        try:
            self._hold(self._setup(qemu))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _scratch(self) -> Path:
        """A folder of the root, which is mounted over inside: so nothing is made outside."""
        return self._root / "run"

    def _setup(self, qemu: str) -> str:
        registration = rf":edgert-aarch64:M::{_MAGIC}:{_MASK}:{qemu}:FP"
        return _SETUP.format(
            size_mb=self._size_mb,
            scratch=shlex.quote(str(self._scratch)),
            root=shlex.quote(str(self._root)),
            devices=" ".join(_DEVICES),
            binds="\n".join(_bind(folder, place) for place, folder in self._shown.items()),
            registration=shlex.quote(registration),
            ready=_READY.strip(),
        )

    def _hold(self, setup: str) -> None:
        """Start the shell that is the first process inside; it ends when its standard input does."""
        self._holder = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._holder.stdout and self._holder.stdout.readline() == _READY:
            return
        _, said = self._holder.communicate()
        raise CrossError(
            f"No arm64 root can be set up here: {said.strip() or 'no message'}. It needs Linux 6.7 or later "
            "with user namespaces, and a machine or container that allows them."
        )

    def start(self, *command: str, cwd: str = "/", output: int | None = None) -> subprocess.Popen[str]:
        """Start a program of the root; its output goes to `output`, as Popen understands it."""
        settings = [f"{name}={value}" for name, value in INSIDE.items()]
        chroot = ("chroot", str(self._scratch / "root"), "/usr/bin/env", "-i", *settings, f"--chdir={cwd}")
        return self._start([*chroot, *command], output)

    def _start(self, command: Sequence[str], output: int | None) -> subprocess.Popen[str]:
        if self._holder is None:
            raise ClosedError("The root is closed.")
        (first,) = children(self._holder.pid)
        return subprocess.Popen(
            [*_ENTER, "--target", str(first), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output == subprocess.PIPE else output,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, cwd: str = "/", timeout_s: float = 120.0) -> str:
        """Run a program inside to its end and return what it printed. Raises CrossError if it fails."""
        return _finish(self.start(*command, cwd=cwd, output=subprocess.PIPE), command, timeout_s)

    def unpack(self, archive: Path, place: str) -> None:
        """Unpack a tar file by this machine's Python, which is quicker. Raises CrossError."""
        target = self._scratch / "root" / place.lstrip("/")
        self.run("/bin/mkdir", "-p", place)
        command = (sys.executable, "-I", "-m", "tarfile", "--extract", str(archive.resolve()), str(target))
        _finish(self._start(command, subprocess.PIPE), command, UNPACK_S)

    def close(self) -> None:
        """End all that runs inside; what was written goes with it."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.communicate()


def _finish(child: subprocess.Popen[str], command: Sequence[str], timeout_s: float) -> str:
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CrossError(f"{shlex.join(command)} did not end within {timeout_s:.0f} s.") from error
    finally:
        end(child)
    if child.returncode:
        tail = "\n  ".join(said.strip().splitlines()[-12:])
        raise CrossError(f"{shlex.join(command)} ended with exit code {child.returncode}:\n  {tail}")
    return said


def _bind(folder: Path, place: str) -> str:
    target = shlex.quote(f"root{place}")
    source = shlex.quote(str(folder.resolve()))
    return f"mkdir -p {target}\nmount --bind {source} {target}\nmount -o remount,bind,ro {target}"


def interrupt(child: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the program that `start` started; nsenter, which waits for it, passes none on."""
    for process in children(child.pid):
        os.kill(process, number)


def end(child: subprocess.Popen[str]) -> None:
    """Kill a program that `start` started, if it still runs."""
    if child.poll() is None:
        interrupt(child, signal.SIGKILL)
        child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def children(parent: int) -> list[int]:
    """Return the processes that `parent` started and that have not ended."""
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [int(entry.name) for entry in entries if _parent_of(entry) == parent]


def _parent_of(entry: Path) -> int | None:
    try:
        after_name = (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return None
    return None if after_name[0] == "Z" else int(after_name[1])
