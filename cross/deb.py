"""Writes a Debian package: an `ar` archive of a version, the control files and the tree."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cross.layout import Content, Tree
from cross.native import SYSTEM_PACKAGES
from cross.pycuda_compile import SDIST, VERSION
from cross.tar import tar
from cross.target import Target
from cross.xz import Packer

PREFIX = Path("opt", "edgert")
# By their place in the folder of units. Drop-ins and what the kernel loads depend on the machine:
# `edgert systemd install` chooses them.
SYSTEM_FILES = {
    "*.service": "systemd/system",
    "*.target": "systemd/system",
    "sysusers.d/*.conf": "sysusers.d",
    "tmpfiles.d/*.conf": "tmpfiles.d",
}
MAINTAINER = "edgert <edgert@localhost>"

# dpkg sets DPKG_ROOT where it runs a script from outside of the root that it fills. A compiled pycuda is
# whole when it has METADATA, which is written last.
POSTINST = """#!/bin/sh
set -e
lib=$DPKG_ROOT/opt/edgert/lib/edgert
if [ "$1" = configure ]; then
  ! command -v systemd-sysusers >/dev/null || systemd-sysusers edgert.conf || true
  ! command -v systemd-tmpfiles >/dev/null || systemd-tmpfiles --create edgert.conf || true
  if [ -d "$lib/pycuda" ] && [ ! -f "$lib/site/{pycuda}.dist-info/METADATA" ]; then
    echo "edgert: compiling pycuda for this board, once; it takes a few minutes."
    rm -rf "$lib"/site/pycuda "$lib"/site/pycuda-*.dist-info
    compile="python{python} -I $lib/pycuda/pycuda_compile.py $lib/pycuda/{sdist} --into $lib/site"
    $compile || echo "edgert: pycuda was not compiled, so no CUDA engine runs yet. Mend what is said above,
then: sudo $compile" >&2
  fi
  python{python} -I -m compileall -q --invalidation-mode unchecked-hash "$lib" ||
    echo "edgert: some modules were not compiled; they are when they are first used." >&2
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    [ -z "$2" ] || systemctl try-restart 'edgert@*.service' || true
  fi
fi
"""

PRERM = """#!/bin/sh
set -e
lib=$DPKG_ROOT/opt/edgert/lib/edgert
if [ "$1" = remove ]; then
  [ ! -d /run/systemd/system ] || systemctl stop 'edgert@*.service' || true
  [ ! -d "$lib/pycuda" ] || rm -rf "$lib"/site/pycuda "$lib"/site/pycuda-*.dist-info
fi
find "$lib" -depth -name __pycache__ -type d -exec rm -r {} + 2>/dev/null || true
"""

# Purged is what edgert has written itself, and what starts units that are no more. Pipeline files, secrets
# and results that no broker has had yet are somebody's.
POSTRM = """#!/bin/sh
set -e
system=$DPKG_ROOT/etc/systemd/system
if [ "$1" = purge ]; then
  for file in "$system"/edgert@*.service.d/*.conf "$system"/edgert* "$DPKG_ROOT"/etc/*.d/edgert.conf; do
    [ ! -f "$file" ] || ! head -n 1 "$file" | grep -q '^# Written by edgert systemd install' || rm "$file"
  done
  for link in "$system"/*.wants/edgert@*.service "$system"/*.wants/edgert.target; do
    [ ! -L "$link" ] || [ -e "$link" ] || rm "$link"
  done
  rmdir "$system"/edgert@*.service.d "$system"/edgert.target.wants 2>/dev/null || true
  rm -rf "$DPKG_ROOT/var/cache/edgert"
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
"""


def package_version(version: str, target: str) -> str:
    """Return the package's version; it names the target, so that one repository can hold several."""
    return f"{version}+{re.sub('[-_]', '.', target)}"


def make_deb(tree: Tree, units: Path, target: Target, version: str, epoch_s: int, packer: Packer) -> bytes:
    """Return the package: the tree in /opt/edgert, and what the system looks for. Raises OSError."""
    installed = installed_tree(tree, units)
    control = {
        Path("control"): Content(_control(installed, target, version).encode()),
        Path("md5sums"): Content(_md5sums(installed).encode()),
        Path("postinst"): Content(_postinst(target).encode(), is_program=True),
        Path("prerm"): Content(PRERM.encode(), is_program=True),
        Path("postrm"): Content(POSTRM.encode(), is_program=True),
    }
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": packer.pack(tar(control, "./", epoch_s)),
        "data.tar.xz": packer.pack(tar(installed, "./", epoch_s)),
    }
    return b"!<arch>\n" + b"".join(_member(name, data, epoch_s) for name, data in members.items())


def installed_tree(tree: Tree, units: Path) -> Tree:
    """Return where the package puts the tree, with the units of the folder `units`, documents and a link."""
    installed: Tree = {Path("usr", "bin", "edgert"): Content(link="/opt/edgert/bin/edgert")}
    for path, content in tree.items():
        installed[(Path("usr") if path.parts[0] == "share" else PREFIX) / path] = content
    for pattern, place in SYSTEM_FILES.items():
        for file in sorted(units.glob(pattern)):
            installed[Path("usr", "lib", place, file.name)] = Content(file=file)
    return installed


def _postinst(target: Target) -> str:
    return POSTINST.format(python=target.python, sdist=SDIST, pycuda=f"pycuda-{VERSION}")


def _control(installed: Tree, target: Target, version: str) -> str:
    major, minor = target.python.split(".")
    depends = [
        f"libc6 (>= {target.glibc})",
        f"python3 (>= {target.python})",
        f"python3 (<< {major}.{int(minor) + 1})",
        *SYSTEM_PACKAGES,
        *target.board.depends,
    ]
    kilobytes = sum(-(-content.size // 1024) for content in installed.values())
    fields = {
        "Package": "edgert",
        "Version": package_version(version, target.name),
        "Architecture": target.debian_architecture,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(kilobytes),
        "Depends": ", ".join(depends),
        "Recommends": ", ".join(target.board.recommends),
        "Suggests": ", ".join(target.board.suggests),
        "Section": "video",
        "Priority": "optional",
        "Description": f"runs engines on cameras and publishes results over MQTT\n For {target.description}.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _md5sums(installed: Tree) -> str:
    lines = (
        f"{hashlib.md5(content.read(), usedforsecurity=False).hexdigest()}  {path}\n"
        for path, content in sorted(installed.items())
        if not content.link
    )
    return "".join(lines)


def _member(name: str, data: bytes, epoch_s: int) -> bytes:
    header = f"{name:<16}{epoch_s:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)
