"""The archives' own formats, as other programs read them: xz, tar, Debian packages."""

from __future__ import annotations

import io
import lzma
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross.deb import installed_tree, make_deb, package_version
from cross.layout import Content
from cross.pycuda_compile import VERSION
from cross.tar import tar
from cross.target import read_target
from cross.xz import KEPT_BYTES, PIECE_BYTES, Packer, _number
from edgert.systemd.stamp import stamped

EPOCH_S = 1_700_000_000
LARGE = random.Random(1).randbytes(KEPT_BYTES)
TREE = {
    Path("bin", "edgert"): Content(b"#!/bin/sh\n", is_program=True),
    Path("lib", "edgert", "site", "a.py"): Content(b"x = 1\n"),
    Path("lib", "edgert", "site", "link"): Content(link="a.py"),
    Path("share", "doc", "edgert", "README"): Content(b"read me\n"),
}


@pytest.fixture
def packer(tmp_path):
    return Packer(tmp_path / "packed")


class TestXz:
    @given(st.lists(st.binary(max_size=2000) | st.just("large"), max_size=6))
    @settings(max_examples=20, deadline=None)
    def test_python_reads_back_what_was_packed(self, tmp_path_factory, drawn):
        parts = [LARGE if part == "large" else part for part in drawn]
        packer = Packer(tmp_path_factory.mktemp("packed"))
        assert lzma.decompress(packer.pack(parts), lzma.FORMAT_XZ) == b"".join(parts)

    def test_parts_longer_than_a_piece_are_cut(self, packer):
        long = bytes(PIECE_BYTES) + b"end"
        assert lzma.decompress(packer.pack([b"a", long, b"z"])) == b"a" + long + b"z"

    @pytest.mark.skipif(shutil.which("xz") is None, reason="xz is not installed")
    def test_xz_finds_nothing_wrong(self, packer, tmp_path):
        (tmp_path / "a.xz").write_bytes(packer.pack([b"small", LARGE, b"rest"]))
        subprocess.run(["xz", "--test", tmp_path / "a.xz"], check=True)

    def test_equal_pieces_side_by_side(self, packer):
        assert lzma.decompress(packer.pack([LARGE] * 9)) == LARGE * 9

    def test_what_was_kept_is_the_same_bytes(self, packer, tmp_path):
        first = packer.pack([b"a", LARGE])
        assert len([*(tmp_path / "packed").iterdir()]) == 1
        assert packer.pack([b"a", LARGE]) == first

    def test_a_kept_file_that_was_damaged_is_not_used(self, packer, tmp_path):
        first = packer.pack([LARGE])
        (kept,) = (tmp_path / "packed").iterdir()
        kept.write_bytes(kept.read_bytes()[:-1])
        assert packer.pack([LARGE]) == first

    @pytest.mark.parametrize(
        ("value", "expected"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (16384, b"\x80\x80\1")]
    )
    def test_numbers(self, value, expected):
        assert _number(value) == expected


class TestTar:
    def read(self, tree, prefix="top/"):
        return tarfile.open(fileobj=io.BytesIO(b"".join(tar(tree, prefix, EPOCH_S))))

    def test_entries_are_in_order_with_fixed_owners_modes_and_times(self):
        entries = self.read(TREE).getmembers()
        assert [entry.name for entry in entries if not entry.isdir()] == [
            f"top/{path}" for path in sorted(TREE)
        ]
        assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {
            (0, 0, "root", EPOCH_S)
        }
        modes = {entry.name: oct(entry.mode) for entry in entries}
        assert modes["top/bin/edgert"] == "0o755"
        assert modes["top/lib/edgert/site/a.py"] == "0o644"

    def test_contents_and_links_are_read_back(self):
        with self.read(TREE) as opened:
            assert opened.extractfile("top/lib/edgert/site/a.py").read() == b"x = 1\n"
            assert opened.getmember("top/lib/edgert/site/link").linkname == "a.py"

    def test_every_folder_comes_before_what_is_in_it(self):
        seen = set()
        for entry in self.read(TREE, "./").getmembers():
            parent = str(Path(entry.name).parent)
            assert parent == "." or parent in seen
            seen.add(str(Path(entry.name)))

    def test_the_order_in_which_a_tree_was_made_does_not_matter(self):
        turned = dict(reversed([*TREE.items()]))
        assert b"".join(tar(TREE, "", 0)) == b"".join(tar(turned, "", 0))

    def test_a_name_longer_than_the_header_has_room_for(self):
        long = Path(*["folder-of-twenty-bits"] * 12, "file")
        assert self.read({long: Content(b"x")}).getmembers()[-1].name == f"top/{long}"


class TestDeb:
    @pytest.fixture
    def package(self, packer, tmp_path):
        units = tmp_path / "units"
        for name in ("edgert@.service", "edgert.target", "sysusers.d/edgert.conf", "drop-ins/30-argus.conf"):
            (units / name).parent.mkdir(parents=True, exist_ok=True)
            (units / name).write_text(name)
        file = tmp_path / "edgert.deb"
        file.write_bytes(make_deb(TREE, units, read_target("jetson-orin-jp6"), "0.1.0", EPOCH_S, packer))
        return file

    def ask(self, package, *command):
        if shutil.which("dpkg-deb") is None:
            pytest.skip("dpkg-deb is not installed")
        done = subprocess.run(["dpkg-deb", *command, package], capture_output=True, text=True, check=True)
        return done.stdout

    def test_dpkg_reads_its_fields(self, package):
        said = self.ask(package, "--info")
        assert "Version: 0.1.0+jetson.orin.jp6\n" in said
        assert "Architecture: arm64\n" in said
        assert "python3 (>= 3.10), python3 (<< 3.11)" in said
        assert "python3-libnvinfer (>= 10.3)" in said

    def test_dpkg_finds_the_files_in_their_places(self, package):
        said = self.ask(package, "--contents")
        for place in (
            *("./opt/edgert/bin/edgert", "./usr/share/doc/edgert/README", "./usr/lib/sysusers.d/edgert.conf"),
            *("./usr/lib/systemd/system/edgert@.service", "./usr/lib/systemd/system/edgert.target"),
            "./usr/bin/edgert -> /opt/edgert/bin/edgert",
        ):
            assert f" {place}\n" in said
        assert "drop-ins" not in said  # `edgert systemd install` chooses them

    @pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
    def test_its_scripts_are_shell(self, package, tmp_path, script):
        self.ask(package, "--info")  # skips where there is no dpkg-deb
        subprocess.run(["dpkg-deb", "--control", package, tmp_path / "control"], check=True)
        subprocess.run(["sh", "-n", tmp_path / "control" / script], check=True)

    @pytest.fixture
    def run_script(self, package, tmp_path):
        """Return a function that runs a script of the package on a root, and says what it had python run."""
        self.ask(package, "--info")
        subprocess.run(["dpkg-deb", "--control", package, tmp_path / "control"], check=True)
        programs, noted = tmp_path / "programs", tmp_path / "noted"
        programs.mkdir()
        for name in ("python3.10", "systemd-sysusers", "systemd-tmpfiles", "systemctl"):
            (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {noted}\n')
            (programs / name).chmod(0o755)

        def run(script, *arguments):
            noted.write_text("")
            subprocess.run(
                [tmp_path / "control" / script, *arguments],
                env={"PATH": f"{programs}:/usr/bin:/bin", "DPKG_ROOT": str(tmp_path / "root")},
                check=True,
            )
            return noted.read_text()

        return run

    @pytest.fixture
    def lib(self, tmp_path):
        folder = tmp_path / "root/opt/edgert/lib/edgert"
        for name in ("pycuda", "site"):
            (folder / name).mkdir(parents=True)
        return folder

    def test_pycuda_is_compiled_when_there_is_none_or_none_that_is_whole(self, run_script, lib):
        assert "pycuda_compile.py" in run_script("postinst", "configure", "")
        driver = lib / "site/pycuda/driver.py"
        driver.parent.mkdir()
        driver.touch()
        (lib / "site/pycuda-2020.1.dist-info").mkdir()  # of an older package, or of an interrupted one
        assert "pycuda_compile.py" in run_script("postinst", "configure", "0.0.9")
        assert [*(lib / "site").iterdir()] == []
        made = lib / f"site/pycuda-{VERSION}.dist-info/METADATA"
        made.parent.mkdir()
        made.touch()
        assert "pycuda_compile.py" not in run_script("postinst", "configure", "0.0.9")

    def test_remove_takes_the_compiled_pycuda_and_an_upgrade_leaves_it(self, run_script, lib):
        for name in ("site/pycuda", "site/pycuda-1.dist-info", "site/edgert/__pycache__"):
            (lib / name).mkdir(parents=True)
        run_script("prerm", "upgrade", "0.2.0")
        assert {path.name for path in (lib / "site").iterdir()} == {"pycuda", "pycuda-1.dist-info", "edgert"}
        assert not (lib / "site/edgert/__pycache__").exists()
        run_script("prerm", "remove")
        assert {path.name for path in (lib / "site").iterdir()} == {"edgert"}

    def test_purge_takes_what_edgert_wrote_and_remove_nothing(self, run_script, tmp_path):
        system = tmp_path / "root/etc/systemd/system"
        ours = [
            *("edgert@.service.d/20-devices.conf", "edgert@door.service.d/50-credentials.conf"),
            *("edgert.target", "../../modules-load.d/edgert.conf"),
        ]
        theirs = ["edgert@.service.d/override.conf", "../../edgert/door.toml", "other.service"]
        for name in (*ours, *theirs):
            (system / name).parent.mkdir(parents=True, exist_ok=True)
            (system / name).write_bytes(stamped("x\n") if name in ours else b"mine\n")
        link = system / "edgert.target.wants/edgert@door.service"
        link.parent.mkdir()
        link.symlink_to(tmp_path / "gone")
        run_script("postrm", "remove")
        assert all((system / name).exists() for name in (*ours, *theirs))
        assert link.is_symlink()
        run_script("postrm", "purge")
        assert [name for name in ours if (system / name).exists()] == []
        assert all((system / name).exists() for name in theirs)
        assert not link.is_symlink()
        assert sorted(path.name for path in system.iterdir()) == ["edgert@.service.d", "other.service"]

    @pytest.mark.parametrize("target", ["jetson-orin-jp6", "x86_64"])
    def test_its_version_has_only_letters_that_debian_allows(self, target):
        assert not set(package_version("0.1.0", target)) - set("abcdefghijklmnopqrstuvwxyz0123456789.+~")

    def test_the_tree_is_installed_below_opt(self, tmp_path):
        assert Path("opt/edgert/lib/edgert/site/a.py") in installed_tree(TREE, tmp_path)
