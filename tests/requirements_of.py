"""What tests need of the machine: missing, they skip with the package's name; in CI that is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"


def need_program(program: str, package: str) -> str:
    """Return the program's path, or skip the test naming Debian's package."""
    path = shutil.which(program)
    if path is None:
        go_without(f"{program} is missing: apt-get install {package}")
    return path


def need_gstreamer(*elements: str, packages: str, typelibs: tuple[str, ...] = ("Gst-1.0",)) -> str:
    """Return a Python that sees GStreamer with these elements, or skip the test naming the packages."""
    requires = "".join(f"gi.require_version(*{typelib.split('-')!r});" for typelib in typelibs)
    check = (
        f"import gi;{requires}from gi.repository import Gst;Gst.init(None);"
        f"missing=[e for e in {elements!r} if Gst.ElementFactory.find(e) is None];"
        "raise SystemExit(f'no element {missing}' if missing else 0)"
    )
    need_program(SYSTEM_PYTHON, "python3")
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        go_without(f"GStreamer is missing ({reason}): apt-get install --no-install-recommends {packages}")
    return SYSTEM_PYTHON


def go_without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
