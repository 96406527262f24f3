"""What the CUDA driver is asked before TensorRT is touched. The drivers are stubs that a C compiler makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROBE = "from edgert.device.board import *; print(probe_cuda_driver().version, cuda_driver_state())"


def stub(init_status, version=0, version_status=0):
    return (
        f"int cuInit(unsigned flags) {{ return {init_status}; }}\n"
        f"int cuDriverGetVersion(int *version) {{ *version = {version}; return {version_status}; }}\n"
    )


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        (stub(0, version=13020), "(13, 2) 13.2"),
        (stub(0, version=12060), "(12, 6) 12.6"),
        (stub(100), "None unusable (cuInit returned 100)"),
        (stub(0, version_status=3), "None error 3"),
        (None, "None none (libcuda.so.1 is not there)"),
    ],
)
def test_the_driver_says_what_it_supports_or_why_not(tmp_path, source, answer):
    compiler = shutil.which("cc") or pytest.skip("cc is missing: apt-get install gcc")
    library = tmp_path / "libcuda.so.1"
    library.write_text("no library")
    if source is not None:
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-xc", "-", "-o", library], input=source.encode(), check=True
        )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == answer, done.stderr
