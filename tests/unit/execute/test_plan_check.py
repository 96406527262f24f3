"""What is said of a plan before anything is loaded."""

from __future__ import annotations

import pytest

from edgert.errors import EngineMismatchError, ModelError
from edgert.execute.options import EngineOptions
from edgert.execute.plan_check import check_plan_file, check_version
from edgert.models.manifest import manifest_path
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from tests.fakes.plan_file import add_manifest, write_plan
from tests.fakes.tensorrt_runtime import FakeTensorRT

RUNTIMES = [name for name, family in FAMILY_OF_RUNTIME.items() if family is TENSORRT]
TAGS = {"tensorrt_rtx": b"vtrt"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "detector" / "1" / "model.plan"


def check(file, runtime="tensorrt", **options):
    return check_plan_file(file, runtime, EngineOptions(**options))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_plan_of_the_runtimes_family_passes(file, runtime):
    write_plan(file, tag=TAGS.get(runtime, b"ftrt"), version=(10, 3, 0, 30))
    header, manifest = check(file, runtime)
    assert (header.version, manifest) == ((10, 3, 0, 30), None)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_plan_of_the_other_family_is_refused_with_who_built_it_and_what_would_load_it(file, runtime):
    is_rtx = runtime == "tensorrt_rtx"
    write_plan(file, tag=b"ftrt" if is_rtx else b"vtrt", version=(1, 4, 0, 76))
    with pytest.raises(EngineMismatchError) as refused:
        check(file, runtime)
    family = "tensorrt" if is_rtx else "tensorrt_rtx"
    assert str(refused.value) == (
        f"{file} was built by {family} 1.4.0.76; the model's runtime is {runtime}. "
        f'Set [engine] runtime = "{family}" in edgert.toml, or build it again: edgert build'
    )


def test_the_manifest_beside_a_plan_is_read(file):
    add_manifest(write_plan(file), precision="int8")
    _, manifest = check(file, manifest_required=True)
    assert manifest.precision == "int8"


def test_a_plan_without_a_manifest_is_refused_where_one_is_required(file):
    write_plan(file)
    with pytest.raises(ModelError, match=r"has no manifest, and manifest_required is set\. .*edgert build"):
        check(file, manifest_required=True)


def test_a_manifest_that_is_damaged_is_refused_also_where_none_is_required(file):
    write_plan(file)
    manifest_path(file).write_text("{")
    with pytest.raises(ModelError, match="not a manifest that edgert knows"):
        check(file)


@pytest.mark.parametrize("content", [None, b"", b"ftrt", b"\x08\x07 an ONNX model"])
def test_a_file_that_is_no_plan_is_refused_by_name(file, content):
    file.parent.mkdir(parents=True)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=str(file)):
        check(file)


def header_of(file, tag, version):
    return check(
        write_plan(file, tag=tag, version=version), "tensorrt_rtx" if tag == b"vtrt" else "tensorrt"
    )[0]


def test_a_plan_of_tensorrt_rtx_runs_with_the_release_that_built_it_only(file):
    header = header_of(file, b"vtrt", (1, 4, 0, 76))
    check_version(file, header, FakeTensorRT(runtime="tensorrt_rtx", version=(1, 4, 0, 99)).bindings())
    with pytest.raises(EngineMismatchError) as refused:
        check_version(file, header, FakeTensorRT(runtime="tensorrt_rtx", version=(1, 5, 0, 114)).bindings())
    assert str(refused.value) == (
        f"{file} was built by TensorRT-RTX 1.4.0.76; here is TensorRT-RTX 1.5.0. Run: edgert build"
    )


def test_whether_tensorrts_own_plan_fits_is_left_to_tensorrt(file):
    header = header_of(file, b"ftrt", (8, 6, 1, 6))
    check_version(file, header, FakeTensorRT(version=(10, 3, 0)).bindings())
