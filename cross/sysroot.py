"""Makes a root file system of Debian 12 for arm64 out of packages; nothing of this machine changes.

It is what debian-arm64's bundle is compiled against and, under qemu-user, run in. apt fetches and verifies
the packages from this machine's own sources, with lists and a cache that are thrown away afterwards.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

from cross.errors import CrossError
from cross.progress import say

RUNTIME = (
    *("python3", "python3.11", "libstdc++6", "ca-certificates"),
    *("dash", "coreutils", "findutils", "diffutils", "libc-bin"),  # of what dpkg and packages need
)
HEADERS = "libpython3.11-dev"  # without what it depends on: the cross compiler brings a C library
APT_S = 600.0
REVISION = 2  # raise it when a root is laid out in another way

_UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/lib/python3.11/config-3.11-aarch64-linux-gnu",
)
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\nvideo:x:44:\nrender:x:106:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


def root_folder(cache: Path) -> Path:
    """Return where the root lies, or will lie; another list of packages is another folder."""
    recipe = hashlib.sha256(repr((RUNTIME, HEADERS, REVISION)).encode()).hexdigest()
    return cache / f"debian-arm64-{recipe[:8]}"


def make_root(cache: Path, *, offline: bool = False) -> Path:
    """Return the root, made if it is not in the cache yet (18 MB to fetch, 100 MB on the disk).

    Raises:
        CrossError: it is not there and may not be fetched, or apt or dpkg failed.
    """
    root = root_folder(cache)
    if root.is_dir():
        return root
    if offline:
        raise CrossError(f"There is no {root}, and --offline forbids fetching Debian's packages.")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".root-") as folder:
        made = Path(folder, "root")
        packages = _fetch(Path(folder, "apt"))
        say(f"unpack {len(packages)} arm64 packages")
        for package in packages:
            _run("dpkg-deb", "-x", str(package), str(made))
        _finish(made, packages)
        try:
            made.rename(root)
        except OSError:  # another process was faster
            if not root.is_dir():
                raise
    return root


def _fetch(folder: Path) -> list[Path]:
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    options = apt_options(folder)
    say("fetch Debian's arm64 packages with apt")
    _run("apt-get", *options, "update")
    _run("apt-get", *options, "--yes", "--no-install-recommends", "--download-only", "install", *RUNTIME)
    _run("apt-get", *options, "download", HEADERS, folder=folder / "archives")
    return sorted((folder / "archives").glob("*.deb"))


def apt_options(folder: Path) -> list[str]:
    """Return what keeps apt to `folder` and to arm64, as if nothing were installed."""
    settings = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",  # _apt may not read a user's cache
    }
    return ["-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def _finish(root: Path, packages: list[Path]) -> None:
    """Write what packages' scripts would have, and tell dpkg what is installed."""
    for name in _UNUSED:
        _run("rm", "-rf", str(root / name))
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("dev", "proc", "root", "tmp", "sys", "run", "var/log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if not (root / "bin" / "sh").exists():
        (root / "bin" / "sh").symlink_to("dash")
    info = root / "var" / "lib" / "dpkg" / "info"
    info.mkdir(parents=True, exist_ok=True)
    controls = [_run("dpkg-deb", "-f", str(package)) for package in packages if HEADERS not in package.name]
    (info.parent / "status").write_text("\n".join(map(as_installed, controls)))
    for control in controls:
        (info / f"{_qualified_name(control)}.list").write_text("/.\n")


def as_installed(control: str) -> str:
    """Return a package's control file as an entry of dpkg's status file."""
    first, rest = control.split("\n", 1)
    return f"{first}\nStatus: install ok installed\n{rest}"


def _qualified_name(control: str) -> str:
    fields = dict(line.split(": ", 1) for line in control.splitlines() if line[:1] != " " and ": " in line)
    suffix = f":{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else ""
    return fields["Package"] + suffix


def _run(*command: str, folder: Path | None = None) -> str:
    """Run a program to its end and return what it printed. Raises CrossError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=APT_S)
    except FileNotFoundError as error:
        raise CrossError(
            f"{command[0]} is not installed; an arm64 root is made on Debian or Ubuntu."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CrossError(f"{command[0]} did not end within {APT_S:.0f} s.") from error
    if done.returncode:
        said = "\n  ".join(done.stderr.strip().splitlines()[-6:])
        raise CrossError(
            f"{command[0]} failed:\n  {said}\nThe root is made of Debian 12's arm64 packages, which this "
            "machine's apt sources must have."
        )
    return done.stdout
