"""Tiny wheels with a lock, a target that takes them, and a wheel of edgert as tiny as they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

from msgspec.structs import replace

from cross.collect import Where
from cross.lock import Pin, sha256_of, write_lock
from cross.target import Bundle, Target
from tests.fakes.elf_file import make_elf

TARGET = Target(
    description="a board of the tests", architecture="aarch64", python="3.11", glibc="2.36", name="tiny"
)
METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}"
CLI = (
    "def main():\n    import sensor\n    print('edgert stands', *__import__('sys').argv[1:])\n    return 7\n"
)


def make_wheel(file, files, more="License-Expression: MIT\n"):
    """Write a wheel; its name and version are those of the file's name."""
    name, version = file.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{info}/METADATA": METADATA.format(name=name, version=version, more=more),
        f"{info}/WHEEL": "Wheel-Version: 1.0\n",
        f"{info}/licenses/LICENSE": f"licence of {name}\n",
        f"{info}/RECORD": "",
        **files,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as opened:
        for path, text in contents.items():
            opened.writestr(path, text)
    return file


class Wheelhouse:
    """All that a build of the target `tiny` needs, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.locks, self.dist = folder / "cache", folder / "locks", folder / "dist"
        self.locks.mkdir(parents=True)
        self.target = replace(TARGET, bundle=Bundle())
        self._pins: list[Pin] = []
        own = {"edgert/__init__.py": "", "edgert/cli.py": CLI, "edgert/prepare/cuda/kernels.cu": "// read\n"}
        self.own = make_wheel(folder / "edgert-0.1.0-py3-none-any.whl", own)
        self.add(
            "sensor-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            {
                "sensor/__init__.py": "from sensor import _native\n",
                "sensor/_native.abi3.so": make_elf(needed=["libc.so.6"], versions=["GLIBC_2.28"])
                + b"PyInit_",
                "sensor/unused.py": "",
                "sensor/tests/test_it.py": "",
                "sensor/include/sensor.h": "",
                "sensor/table.json": "{}",
            },
        )

    def add(self, name, files, more="License-Expression: MIT\n"):
        """Add a wheel to the cache and to the lock."""
        file = make_wheel(self.cache / name, files, more)
        self._pins.append(Pin(sha256_of(file), name))
        write_lock(self.locks / "tiny.lock", self._pins, "of a test")
        return file

    @property
    def where(self):
        return Where(self.dist, self.cache, offline=True, wheel=self.own, locks=self.locks)
