"""Native files: what they need is read, and compared with the target; against readelf where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from cross.elf import read_elf
from cross.errors import BundleError
from cross.native import check_natives
from cross.target import read_target
from tests.fakes.elf_file import make_elf

ORIN = read_target("jetson-orin-jp6")  # glibc 2.35


def test_what_a_file_needs_is_read(tmp_path):
    needed, versions = (
        ["libm.so.6", "libfoo.so.1"],
        ["GLIBC_2.17", "GLIBC_2.4", "GLIBC_PRIVATE", "GLIBCXX_3.4.22"],
    )
    file = tmp_path / "a.so"
    file.write_bytes(make_elf(soname="liba.so.2", needed=needed, versions=versions))
    elf = read_elf(file)
    assert (elf.architecture, elf.soname, elf.needed) == ("aarch64", "liba.so.2", tuple(needed))
    assert elf.versions == tuple(versions)
    assert elf.highest("GLIBC") == (2, 17)  # by number: 2.4 is older
    assert elf.highest("GLIBCXX") == (3, 4, 22)
    assert elf.highest("CXXABI") == ()


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_a_real_file_is_read_as_readelf_reads_it():
    numpy = Path(sysconfig.get_path("purelib"), "numpy")
    file = next(numpy.rglob("_multiarray_umath*.so"))
    dynamic = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True).stdout
    needs = subprocess.run(["readelf", "-V", file], capture_output=True, text=True, check=True).stdout
    elf = read_elf(file)
    assert list(elf.needed) == re.findall(r"NEEDED\).*\[(.*)\]", dynamic)
    assert set(elf.versions) == set(re.findall(r"Name: ((?:GLIBC|GCC|GLIBCXX|CXXABI)_\S+)", needs))
    assert elf.highest("GLIBC") > (2,)


@pytest.mark.parametrize("cut", [5, 40, 100, 200])
def test_half_a_file_is_named(tmp_path, cut):
    whole = make_elf(needed=["libm.so.6"], versions=["GLIBC_2.17"])
    (tmp_path / "half.so").write_bytes(whole[:cut])
    with pytest.raises(BundleError, match=r"half\.so: cannot be read"):
        read_elf(tmp_path / "half.so")


@pytest.fixture
def site(tmp_path):
    """A site folder whose files are made from the arguments of make_elf."""

    def make(**files):
        for name, arguments in files.items():
            (tmp_path / f"{name}.so").write_bytes(make_elf(**arguments))
        return tmp_path

    return make


def test_files_that_fit(site):
    folder = site(
        a={"needed": ["libb.so.1", "libcuda.so.1", "libstdc++.so.6"], "versions": ["GLIBC_2.35"]},
        b={"soname": "libb.so.1", "versions": ["GLIBCXX_3.4.30"]},
    )
    (folder / "notes.txt").write_text("no native file")
    assert check_natives(folder, ORIN) == (2, "2.35", "3.4.30")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "x86_64"}, r"a\.so is for x86_64, not aarch64"),
        ({"architecture": "arm"}, r"a\.so is for machine 40, not aarch64"),
        ({"versions": ["GLIBC_2.36"]}, r"a\.so needs GLIBC_2\.36; the target has 2\.35"),
        ({"versions": ["GLIBCXX_3.4.31"]}, r"needs GLIBCXX_3\.4\.31; the target has 3\.4\.30"),
        ({"needed": ["libodd.so.3"]}, r"a\.so needs libodd\.so\.3, which neither"),
    ],
)
def test_a_file_that_does_not_is_named(site, arguments, message):
    with pytest.raises(BundleError, match=message):
        check_natives(site(a=arguments), ORIN)


def test_every_file_that_does_not_fit_is_named_at_once(site):
    folder = site(a={"architecture": "x86_64"}, b={}, c={"needed": ["libodd.so"]})
    with pytest.raises(BundleError) as raised:
        check_natives(folder, ORIN)
    assert [line.split()[0] for line in str(raised.value).splitlines()[1:]] == ["a.so", "c.so"]
