"""The bundle of debian-arm64 in a root of Debian arm64 under qemu, and pycuda compiled for it.

Needs qemu-user-static, and what two commands leave: `python -m cross build debian-arm64` (the archive) and
`python -m cross smoke ARCHIVE` (the root, the demo's material).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from cross.own_wheel import CHECKOUT
from cross.pycuda import provide
from cross.smoke import run_smoke
from cross.smoke_root import QEMU, ForeignRoot, children
from cross.sysroot import root_folder
from cross.target import Board, read_target
from cross.wheels import unpack
from edgert.demo.material import default_cache
from tests.requirements_of import need_program

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CACHE = CHECKOUT / ".cache" / "cross"
WAIT_S = 30.0
IMPORT = """
import sys
sys.path[:0] = ["/site"]
try:
    import pycuda.driver as driver
    driver.init()
except Exception as error:
    print(error)
"""
# In place of the driver's library: it has each function that pycuda calls, and no device.
NO_DEVICE = """
int cuGetErrorString(int status, const char **text) { *text = "no device here"; return 0; }
"""


@pytest.fixture(scope="module")
def root():
    need_program(QEMU, "qemu-user-static")
    folder = root_folder(CACHE)
    if not folder.is_dir():
        pytest.skip(f"there is no {folder.name} in the cache: python -m cross smoke ARCHIVE makes it")
    return folder


@pytest.fixture
def archive():
    found = sorted((CHECKOUT / "dist").glob("edgert-*-debian-arm64.tar.xz"))
    if not found:
        pytest.skip("there is no archive in dist: python -m cross build debian-arm64")
    if not (default_cache() / "face").is_dir():
        pytest.skip("the demo's models are not here: edgert demo --seconds 1 fetches them")
    return found[-1]


def files_below(folder):
    return {(path, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def registrations():
    """Return the interpreters that this machine, outside, has for programs of others."""
    return sorted(file.name for file in Path("/proc/sys/fs/binfmt_misc").iterdir())


def wait_until(is_true):
    deadline = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestRoot:
    def test_runs_arm64_programs_and_the_programs_that_these_start(self, root):
        with ForeignRoot(root, {}) as inside:
            said = inside.run(
                "python3", "-c", "import os; print(os.uname().machine, os.popen('uname -m').read())"
            )
        assert said.split() == ["aarch64", "aarch64"]

    def test_what_is_written_is_gone_afterwards_and_what_is_shown_cannot_be_written(self, root, tmp_path):
        before, registered = files_below(root / "etc"), registrations()
        with ForeignRoot(root, {"/shown": tmp_path}) as inside:
            inside.run("sh", "-c", "echo written > /etc/hosts; echo written > /tmp/new")
            said = inside.run("sh", "-c", "cat /tmp/new; touch /shown/new || true")
        assert said.startswith("written")
        assert "Read-only file system" in said
        assert files_below(root / "etc") == before
        assert registrations() == registered
        assert list(tmp_path.iterdir()) == list((root / "run").iterdir()) == []

    def test_all_that_runs_inside_ends_with_the_block(self, root):
        with ForeignRoot(root, {}) as inside:
            sleeper = inside.start("sleep", "600")
            wait_until(lambda: children(sleeper.pid))
            (process,) = children(sleeper.pid)
        sleeper.wait(WAIT_S)
        assert not Path(f"/proc/{process}").exists()

    def test_ctrl_c_ends_it_too(self, root):
        code = (
            "import sys; from pathlib import Path; from cross.smoke_root import ForeignRoot\n"
            f"with ForeignRoot(Path({str(root)!r}), {{}}) as inside: inside.run('sleep', '600')"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: len(children(child.pid)) == 2)
        started = [process for parent in children(child.pid) for process in (parent, *children(parent))]
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=WAIT_S)
        assert "KeyboardInterrupt" in said
        wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in started))


def test_the_bundle_runs_the_demo_s_pipeline(root, archive):
    said = []
    run_smoke(archive, None, CACHE, said.append, offline=True)
    steps = [line for line in said if " s  " in line]
    assert [line.split("  ")[1].strip() for line in (text.strip() for text in steps)] == [
        "unpack the archive",
        "edgert doctor",
        "edgert check",
        "edgert run, subscribed outside",
        "in all: the bundle works",
    ]
    assert " of face" in steps[3]
    assert " of classify" in steps[3]
    assert " bytes of face over HTTP" in steps[3]


@pytest.mark.skipif(
    os.environ.get("CROSS_PYCUDA") != "yes", reason="compiles for two minutes: CROSS_PYCUDA=yes"
)
@pytest.mark.parametrize("cuda", ["12.6", "13.0"])
def test_pycuda_is_compiled_and_found_whole_up_to_the_device(root, tmp_path, cuda):
    compiler = need_program("aarch64-linux-gnu-gcc", "g++-aarch64-linux-gnu")
    target = replace(
        read_target("debian-arm64"), board=Board(libraries=("libcuda.so.1",), cuda=cuda)
    )  # that its native files fit is checked there
    (wheel,) = provide(target, root, tmp_path / "out", cache=CACHE)
    site = tmp_path / "site"
    unpack(wheel, site)
    (numpy,) = CACHE.glob("numpy-*-cp311-cp311-*aarch64.whl")
    unpack(numpy, site)
    (site / "stub").mkdir()
    with ForeignRoot(root, {"/site": site}) as inside:
        assert "libcuda.so.1: cannot open shared object file" in inside.run("python3", "-c", IMPORT)
        link_stub(compiler, site / "pycuda", site / "stub" / "libcuda.so.1")
        whole = ("env", "LD_LIBRARY_PATH=/site/stub", "LD_BIND_NOW=1")
        assert "cuInit failed: no device here" in inside.run(*whole, "python3", "-c", IMPORT)


def link_stub(compiler, package, library):
    """Link a library with all functions of CUDA's driver that pycuda's module names."""
    (driver,) = package.glob("_driver.*.so")
    listed = subprocess.run(
        [compiler.replace("-gcc", "-nm"), "-D", "--undefined-only", driver],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = {line.split()[-1] for line in listed.splitlines() if line.split()[-1].startswith("cu")}
    functions = "".join(
        f"int {name}(void) {{ return 100; }}\n" for name in sorted(names - {"cuGetErrorString"})
    )
    source = library.with_suffix(".c")
    source.write_text(NO_DEVICE + functions)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
