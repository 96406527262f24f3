"""GStreamer through its own Python binding, which only the machine's Python sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.requirements_of import need_gstreamer

pytestmark = pytest.mark.system

PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name("gstreamer_cases.py")


def test_binding_delivers_frames_and_errors():
    python = need_gstreamer(
        "videotestsrc",
        "videoconvert",
        "appsink",
        "rtspsrc",
        packages=PACKAGES,
        typelibs=("Gst-1.0", "GstApp-1.0"),
    )
    version = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    if tuple(map(int, version.split())) != sys.version_info[:2]:
        pytest.skip(f"{python} is Python {version.strip()} and cannot use this environment's packages")
    packages = Path(np.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{packages}", "GST_DEBUG": "0"}
    own_warning = "ignore:DynamicImporter:ImportWarning"  # PyGObject 3.42's, on Python 3.11
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", own_warning, str(CASES)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
