"""The machine, or the image of one, that the service is installed on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edgert.errors import ConfigError

_LIBRARIES = (
    "usr/lib/systemd/libsystemd-shared-*.so",
    "lib/systemd/libsystemd-shared-*.so",
    "usr/lib/*/systemd/libsystemd-shared-*.so",
)
_PACKAGED = ("usr/lib/systemd/system", "lib/systemd/system")

_MAKE_USER = (["systemd-sysusers", "edgert.conf"], ["systemd-tmpfiles", "--create", "edgert.conf"])

Run = Callable[[Sequence[str]], None]


def run_tool(command: Sequence[str]) -> None:
    """Run one of systemd's own programs. Raises ConfigError if it is missing or fails."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"{command[0]} is not installed here; needed: {shlex.join(command)}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise ConfigError(f"{shlex.join(command)} failed: {said}")


class Machine:
    """A root file system with systemd in it."""

    def __init__(self, root: Path, run: Run = run_tool) -> None:
        self.root = root
        self._run = run

    @property
    def is_image(self) -> bool:
        """Whether it is the file system of another machine."""
        return self.root.resolve() != Path("/")

    @property
    def is_running(self) -> bool:
        """Whether systemd is process 1 here and now."""
        return not self.is_image and Path("/run/systemd/system").is_dir()

    def at(self, path: str | Path) -> Path:
        """Return where an absolute path of the machine is here."""
        return self.root / str(path).lstrip("/")

    def systemd_version(self) -> int | None:
        """Return the version of the systemd that is installed; None if none is."""
        found = [path.name for pattern in _LIBRARIES for path in self.root.glob(pattern)]
        numbers = [int(match[1]) for name in found if (match := re.search(r"shared-(\d+)", name))]
        return max(numbers, default=None)

    def packaged(self, unit: str) -> Path | None:
        """Return where a package has put the unit; None if none has."""
        return next((path for place in _PACKAGED if (path := self.root / place / unit).is_file()), None)

    def demand_systemd(self) -> None:
        """Raise ConfigError if this machine has no systemd. An image may get it later, but is to be there."""
        if self.is_image and not self.root.is_dir():
            raise ConfigError(f"--root {self.root}: there is no such folder.")
        if not self.is_image and self.systemd_version() is None:
            raise ConfigError(
                "There is no systemd on this machine. Start edgert another way: edgert run FILE. "
                "For the image of another machine: --root DIR"
            )

    def demand_rights(self, action: str, program: Path) -> None:
        """Raise ConfigError unless this process may change the machine."""
        if not self.is_image and os.geteuid() != 0:
            raise ConfigError(
                f"Only root may change the services of this machine. Run: sudo {program} systemd {action}"
            )

    def make_user(self) -> list[str]:
        """Create the service's user and folders. Returns commands that are left for an image's first start.

        Raises:
            ConfigError: systemd's tools refuse.
        """
        if self.is_image and shutil.which("systemd-sysusers") is None:
            return [shlex.join(command) for command in _MAKE_USER]
        where = [f"--root={self.root}"] if self.is_image else []
        for tool, *arguments in _MAKE_USER:
            self._run([tool, *where, *arguments])
        return []

    def read_units_again(self) -> None:
        """Let a running systemd see the files. Raises ConfigError."""
        if self.is_running:
            self._run(["systemctl", "daemon-reload"])

    def stop(self, units: Sequence[str]) -> None:
        """Stop units, where systemd runs; patterns may stand for several. Raises ConfigError."""
        if self.is_running:
            self._run(["systemctl", "stop", *units])
