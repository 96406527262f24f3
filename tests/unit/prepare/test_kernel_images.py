"""The compiled kernel: which image a driver gets, and that it is what it is said to be."""

import importlib.util
import os
import shutil
import struct
from pathlib import Path

import pytest

from edgert.errors import ConfigError, DeviceError
from edgert.prepare.kernels import CUDA12_IMAGE, CUDA13_IMAGE, IMAGE_FOLDER, kernel_stamp, load_kernel_image

SCRIPT = Path(__file__).parents[3] / "cross" / "compile_kernels.py"
# What the images hold: machine code (sm), and PTX for newer devices (compute).
CONTENTS = {CUDA13_IMAGE: {"sm_87", "sm_90", "sm_110", "compute_87"}, CUDA12_IMAGE: {"sm_87"}}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compile_kernels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """A folder like the packaged one, with images that are nothing but their names and stamps."""
    for source in IMAGE_FOLDER.glob("*.cu*"):
        if source.suffix in (".cu", ".cuh"):
            shutil.copy(source, tmp_path)
    for name in CONTENTS:
        (tmp_path / name).write_bytes(name.encode() + kernel_stamp(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("driver", "compute", "name"),
    [
        (13000, (8, 7), CUDA13_IMAGE),
        (13000, (9, 0), CUDA13_IMAGE),
        (13020, (11, 0), CUDA13_IMAGE),
        (14010, (12, 1), CUDA13_IMAGE),
        (12060, (8, 7), CUDA12_IMAGE),
        (12020, (8, 7), CUDA12_IMAGE),
    ],
)
def test_a_driver_gets_what_it_takes(driver, compute, name, folder):
    assert load_kernel_image(driver, compute, folder).startswith(name.encode())


@pytest.mark.parametrize(
    ("driver", "compute", "text"),
    [
        (12060, (9, 0), "CUDA 12.6; on compute 9.0 the preparation kernel needs a driver for CUDA 13"),
        (11040, (8, 7), "CUDA 11.4"),
        (13000, (7, 2), "compute 7.2; the preparation kernel needs 8.7"),
    ],
)
def test_a_device_without_an_image_is_told_what_it_needs(driver, compute, text, folder):
    with pytest.raises(DeviceError, match=text):
        load_kernel_image(driver, compute, folder)


def test_an_edgert_without_images_says_how_to_make_them(folder):
    (folder / CUDA13_IMAGE).unlink()
    with pytest.raises(ConfigError, match=rf"without {CUDA13_IMAGE}. Run `make kernels`"):
        load_kernel_image(13000, (9, 0), folder)


def test_an_image_of_other_sources_is_noticed(folder):
    with (folder / "sampling.cuh").open("a") as source:
        source.write("// changed\n")
    with pytest.raises(ConfigError, match="compiled from other sources"):
        load_kernel_image(12060, (8, 7), folder)


@pytest.mark.parametrize("name", CONTENTS)
def test_images_that_are_here_hold_what_they_should(name, script):
    file = IMAGE_FOLDER / name
    if not file.exists():
        pytest.skip(f"{name} has not been compiled: make kernels")
    assert set(script.describe(file.read_bytes())) == CONTENTS[name]
    assert kernel_stamp() in file.read_bytes(), "stale: make kernels"


def test_script_and_package_agree_on_names_and_stamp(script):
    assert {script.FATBIN, script.CUBIN} == set(CONTENTS)
    assert script.stamp().encode() == kernel_stamp()


def test_nvcc_compiles_for_every_device(script, tmp_path, capsys):
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is missing: CUDA 13's compiler")
    assert script.main(["--only", "cuda13", "--into", str(tmp_path)]) == 0
    assert set(script.describe((tmp_path / CUDA13_IMAGE).read_bytes())) == CONTENTS[CUDA13_IMAGE]
    assert kernel_stamp() in (tmp_path / CUDA13_IMAGE).read_bytes()
    assert "sm_110" in capsys.readouterr().out


def test_nvrtc_compiles_for_jetpack_6(script, tmp_path, capsys):
    library = Path(os.environ.get("NVRTC", script.NVRTC))
    if not library.exists():
        pytest.skip("NVRTC 12.6 is missing: NVRTC=.../libnvrtc.so.12 of nvidia-cuda-nvrtc-cu12==12.6.*")
    assert script.main(["--only", "cuda12", "--into", str(tmp_path), "--nvrtc", str(library)]) == 0
    assert set(script.describe((tmp_path / CUDA12_IMAGE).read_bytes())) == CONTENTS[CUDA12_IMAGE]
    assert kernel_stamp() in (tmp_path / CUDA12_IMAGE).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--only", "cuda13", "--nvcc", "no-such-nvcc"), "There is no no-such-nvcc"),
        (("--only", "cuda12", "--nvrtc", "no-such.so"), "NVRTC cannot be loaded"),
    ],
)
def test_a_missing_compiler_is_named_and_nothing_written(arguments, text, script, tmp_path, capsys):
    assert script.main([*arguments, "--into", str(tmp_path)]) == 1
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_failing_compiler_is_quoted(script, tmp_path, capsys):
    compiler = tmp_path / "nvcc"
    compiler.write_text("#!/bin/sh\necho line 7: no such thing >&2\nexit 2\n")
    compiler.chmod(0o755)
    assert script.main(["--only", "cuda13", "--nvcc", str(compiler), "--into", str(tmp_path / "out")]) == 1
    assert "line 7: no such thing" in capsys.readouterr().err


def elf(device: int, version: int) -> bytes:
    flags = device << 8 | 4 if version >= 8 else device << 16 | device
    head = b"\x7fELF\2\1\1A" + bytes([version]) + bytes(7) + struct.pack("<HH", 2, 190)
    return head.ljust(48, b"\0") + struct.pack("<I", flags) + bytes(12)


def entry(kind: int, device: int, payload: bytes) -> bytes:
    header = struct.pack("<HHIQIIII", kind, 0x101, 64, len(payload), 0, 0, 0, device)
    return header.ljust(64, b"\0") + payload


def fatbin(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_what_is_in_an_image_is_read_from_its_headers(script):
    image = fatbin(entry(2, 90, elf(90, 8)), entry(1, 87, b".version 9.0"))
    assert list(script.describe(image)) == ["sm_90", "compute_87"]
    assert list(script.describe(elf(87, 7))) == ["sm_87"]


@pytest.mark.parametrize(
    "image",
    [
        bytes(64),
        fatbin(entry(2, 90, elf(87, 8))),
        fatbin(entry(2, 90, bytes(64))),
        fatbin(entry(1, 87, b"ptx"))[:-1],
        elf(87, 7).replace(b"\xbe", b"\x3e"),
    ],
)
def test_what_is_no_such_image_is_refused(image, script):
    with pytest.raises(script.CompileError):
        list(script.describe(image))
