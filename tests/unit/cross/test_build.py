"""A whole build, of wheels as small as can be: what comes out, twice the same, and what goes wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import tarfile

import pytest
from msgspec.structs import replace

from cross import build as building
from cross import compile_kernels
from cross.build import build, bundle_names, commit_time_s, uncommitted
from cross.distribution import Distribution
from cross.documents import documents
from cross.errors import BundleError, CrossError
from cross.layout import DOCUMENTS
from cross.lock import Pin
from cross.pycuda_compile import SDIST, VERSION
from cross.sizes import print_sizes, sizes_of
from cross.target import Bundle, read_target
from edgert.errors import ConfigError
from tests.fakes.elf_file import make_elf
from tests.fakes.wheelhouse import Wheelhouse

EPOCH_S = 1_700_000_000


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH_S))
    return Wheelhouse(tmp_path)


def unpack(house, folder):
    archive = build(house.target, house.where)[0]
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="fully_trusted")
    return folder / "edgert-0.1.0-tiny"


class TestContents:
    def test_three_files_with_their_checksums(self, house):
        files = build(house.target, house.where)
        assert [file.name for file in files] == [*bundle_names(house.target)]
        assert sorted(house.dist.iterdir()) == sorted(files)
        lines = files[2].read_text().splitlines()
        assert lines == [
            f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files[:2]
        ]

    def test_the_archive_holds_what_is_read_and_nothing_else(self, house, tmp_path):
        top = unpack(house, tmp_path / "out")
        site = top / "lib" / "edgert" / "site"
        assert {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()} == {
            *("edgert/__init__.py", "edgert/cli.py", "edgert/prepare/cuda/kernels.cu"),
            *("edgert-0.1.0.dist-info/METADATA", "sensor-1.0.dist-info/METADATA"),
            *("sensor/__init__.py", "sensor/_native.abi3.so", "sensor/table.json"),
        }

    def test_its_documents_say_what_is_in_it(self, house, tmp_path):
        documents = unpack(house, tmp_path / "out") / "share" / "doc" / "edgert"
        assert (documents / "licences" / "sensor-1.0" / "LICENSE").read_text() == "licence of sensor\n"
        sbom = json.loads((documents / "sbom.cdx.json").read_text())
        assert [part["purl"] for part in sbom["components"]] == ["pkg:pypi/sensor@1.0"]
        lock = (house.locks / "tiny.lock").read_text()
        assert sbom["components"][0]["hashes"][0]["content"] in lock
        assert (documents / "examples" / "door.toml").is_file()
        assert "edgert 0.1.0 for a board of the tests" in (documents / "README").read_text()

    @pytest.mark.parametrize("is_source", [True, False])
    def test_where_pycuda_is_source_its_readme_says_how_it_is_compiled(self, tmp_path, is_source):
        modules = frozenset() if is_source else frozenset({"pycuda/driver.py"})
        part = Distribution(Pin("0" * 64, SDIST), "pycuda", VERSION, "MIT", modules, {})
        tree = documents(read_target("jetson-orin-jp6"), "0.1.0", [part], tmp_path, EPOCH_S)
        said = tree[DOCUMENTS / "README"].read().decode()
        assert (f"python3.10 -I pycuda/pycuda_compile.py pycuda/{SDIST} --into site\n" in said) == is_source
        assert ("apt-get install g++ python3-dev cuda-driver-dev-12-6" in said) == is_source

    def test_sha256sum_checks_the_unpacked_archive(self, house, tmp_path):
        top = unpack(house, tmp_path / "out")
        subprocess.run(["sha256sum", "--quiet", "-c", "share/doc/edgert/SHA256SUMS"], cwd=top, check=True)
        (top / "lib" / "edgert" / "launch.py").write_text("changed")
        done = subprocess.run(
            ["sha256sum", "-c", "share/doc/edgert/SHA256SUMS"], cwd=top, capture_output=True, check=False
        )
        assert done.returncode != 0

    def test_a_wheel_that_nothing_imports_is_left_out_whole(self, house, tmp_path, capsys):
        house.add("idle-2.0-py3-none-any.whl", {"idle.py": ""})
        top = unpack(house, tmp_path / "out")
        assert not list(top.rglob("*idle*"))
        assert "idle 2.0: no module imports it, left out" in capsys.readouterr().err

    def test_sizes_are_those_of_the_files(self, house, capsys):
        archive, package, _ = build(house.target, house.where)
        sizes = sizes_of(house.dist, "tiny")
        assert sizes[1:3] == (archive.stat().st_size, package.stat().st_size)
        print_sizes(house.dist, ["tiny"])
        assert f"{sizes.installed_bytes / 1e6:.1f} MB {sizes.files:>7}" in capsys.readouterr().out

    def test_no_bundle_no_table(self, tmp_path):
        with pytest.raises(ConfigError, match="there is no bundle"):
            print_sizes(tmp_path)


class TestKernels:
    def test_only_the_targets_image_goes_in_if_it_is_of_these_sources(self, house, monkeypatch, tmp_path):
        sources = tmp_path / "sources"
        sources.mkdir()
        (sources / "kernels.cu").write_text("code")
        monkeypatch.setattr(compile_kernels, "SOURCES", sources)
        for name in ("kernels-cuda13.fatbin", "kernels-cuda12-sm87.cubin"):
            (sources / name).write_text(f"{name} {compile_kernels.stamp()}")
        house.target = replace(house.target, bundle=Bundle(kernels=("kernels-cuda12-sm87.cubin",)))
        folder = unpack(house, tmp_path / "out") / "lib" / "edgert" / "site" / "edgert" / "prepare" / "cuda"
        assert {file.name for file in folder.iterdir()} == {"kernels.cu", "kernels-cuda12-sm87.cubin"}
        image = (folder / "kernels-cuda12-sm87.cubin").read_text()
        assert image == f"kernels-cuda12-sm87.cubin {compile_kernels.stamp()}"


class TestLauncher:
    """The archive's own bin/edgert, on this machine's Python."""

    @pytest.fixture
    def top(self, house, tmp_path):
        version = ".".join(map(str, sys.version_info[:2]))
        house.target = replace(house.target, python=version)
        top = unpack(house, tmp_path / "some where")
        (top / "lib" / "edgert" / "site" / "sensor" / "__init__.py").write_text("")  # it was native code
        return top

    def run(self, program, **environment):
        variables = {"PATH": "/usr/bin:/bin", "EDGERT_PYTHON": sys.executable, **environment}
        return subprocess.run(
            [program, "run", "x"], env=variables, capture_output=True, text=True, check=False
        )

    def test_it_starts_from_any_place_and_hands_on_arguments_and_exit_code(self, top, tmp_path):
        (tmp_path / "link").symlink_to(top / "bin" / "edgert")
        for program in (top / "bin" / "edgert", tmp_path / "link"):
            done = self.run(program)
            assert (done.returncode, done.stdout) == (7, "edgert stands run x\n")

    def test_modules_of_the_environment_do_not_come_before_its_own(self, top, tmp_path):
        (tmp_path / "sensor.py").write_text("raise SystemExit('the wrong one')")
        assert self.run(top / "bin" / "edgert", PYTHONPATH=str(tmp_path)).returncode == 7

    def test_another_python_is_refused(self, top, house):
        launcher = top / "bin" / "edgert"
        launcher.write_text(
            launcher.read_text().replace(house.target.python, "3.99").replace("!= (3, ", "!= (99, ")
        )
        done = self.run(launcher)
        assert done.returncode == 2
        assert "this bundle needs Python 3.99" in done.stderr


class TestReproducible:
    def test_two_builds_give_the_same_bytes(self, house):
        first = [file.read_bytes() for file in build(house.target, house.where)]
        where = house.where._replace(dist=house.dist / "again", cache=house.cache)
        mask = os.umask(0o077)
        try:
            assert [file.read_bytes() for file in build(house.target, where)] == first
        finally:
            os.umask(mask)

    def test_files_get_the_commits_time(self, monkeypatch):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        if not (building.CHECKOUT / ".git").exists():
            pytest.skip("the tests do not run in a git checkout")
        assert commit_time_s() > 1_600_000_000

    def test_what_is_no_checkout_says_so(self, monkeypatch, tmp_path):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        monkeypatch.setattr(building, "CHECKOUT", tmp_path)
        with pytest.raises(CrossError, match="is no git checkout; set SOURCE_DATE_EPOCH"):
            commit_time_s()

    def test_what_no_commit_has_is_said(self, house, monkeypatch, tmp_path, capsys):
        git = ("git", "-C", tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost")
        (tmp_path / "edgert").mkdir()
        (tmp_path / "edgert/a.py").touch()
        for command in (["init", "-q"], ["add", "edgert"], ["commit", "-qm", "first"]):
            subprocess.run([*git, *command], check=True)
        monkeypatch.setattr(building, "CHECKOUT", tmp_path)
        assert uncommitted() == []
        (tmp_path / "edgert/a.py").write_text("changed")
        (tmp_path / "edgert/new.py").touch()
        (tmp_path / "notes").touch()  # in no bundle
        assert uncommitted() == ["edgert/a.py", "edgert/new.py"]
        build(house.target, house.where)
        assert "not as committed" not in capsys.readouterr().err  # the wheel was given

    def test_a_time_that_is_none_is_refused(self, monkeypatch):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
        with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH = 'yesterday'"):
            commit_time_s()


class TestRefusals:
    def refuse(self, house, kind, message):
        with pytest.raises(kind, match=message):
            build(house.target, house.where)
        assert not house.dist.exists() or [*house.dist.iterdir()] == []

    def test_qnx(self, house):
        house.target = read_target("drive-qnx")
        self.refuse(house, ConfigError, "drive-qnx has no bundle. TensorRT has no Python")

    def test_a_wheel_for_another_architecture(self, house):
        house.add("odd-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", {})
        self.refuse(house, BundleError, r"odd-1\.0.* is for manylinux_2_28_x86_64; tiny is aarch64")

    def test_a_wheel_with_another_hash(self, house):
        wheel = next(house.cache.glob("sensor*.whl"))
        wheel.write_bytes(wheel.read_bytes() + b"!")
        self.refuse(house, BundleError, "the lock says")

    def test_a_wheel_whose_native_code_is_not_what_its_name_says(self, house):
        house.add(
            "liar-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            {"liar.libs/libliar.so.1": make_elf("x86_64", versions=["GLIBC_2.38"])},
        )
        self.refuse(house, BundleError, r"liar\.libs/libliar\.so\.1 is for x86_64, not aarch64")

    def test_an_empty_cache(self, house):
        next(house.cache.glob("sensor*.whl")).unlink()
        self.refuse(house, CrossError, "--offline forbids fetching: sensor-1.0")

    def test_a_kernel_that_cannot_be_compiled_here(self, house, monkeypatch, tmp_path):
        monkeypatch.setattr(compile_kernels, "SOURCES", tmp_path)  # no image, and no nvcc on the PATH
        monkeypatch.setenv("PATH", str(tmp_path))
        house.target = replace(house.target, bundle=Bundle(kernels=("kernels-cuda13.fatbin",)))
        self.refuse(house, CrossError, "kernels-cuda13.fatbin: There is no nvcc. Install CUDA 13's compiler")

    def test_a_read_only_disk(self, house):
        house.dist.parent.joinpath("dist").write_text("a file where the folder should be")
        with pytest.raises(FileExistsError, match="dist"):
            build(house.target, house.where)


class TestInterrupted:
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
    def test_the_bundle_before_stays_and_no_half_one_comes(self, house, monkeypatch, error):
        before = {file: file.read_bytes() for file in build(house.target, house.where)}

        def fail(*arguments):
            raise error

        monkeypatch.setattr(building, "make_deb", fail)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
        with pytest.raises(type(error)):
            build(house.target, house.where)
        assert {file: file.read_bytes() for file in house.dist.iterdir()} == before

    def test_what_a_killed_build_left_is_removed_and_a_running_ones_is_not(self, house):
        ended = subprocess.Popen(["true"])
        ended.wait()
        left, running = (house.dist / f".cross-{number}-abc" for number in (ended.pid, os.getppid()))
        for folder in (left, running):
            (folder / "site").mkdir(parents=True)
        build(house.target, house.where)
        assert not left.exists()
        assert running.exists()
