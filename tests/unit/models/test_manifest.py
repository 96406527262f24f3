"""What is known of an engine since it was built, and what is refused for it."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import stat

import msgspec
import pytest

from edgert.errors import EngineMismatchError, ModelError
from edgert.models.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ShapeRange,
    SourceModel,
    check_manifest,
    manifest_path,
    read_manifest,
    sha256_of,
    write_manifest,
)

PLAN = bytes(range(256)) * 16
BUILT = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=datetime.timezone.utc)
ON_ORIN = {"runtime": "tensorrt", "runtime_version": (10, 3, 0), "compute_capability": "8.7"}


@pytest.fixture
def plan_file(tmp_path):
    file = tmp_path / "detector" / "1" / "model.plan"
    file.parent.mkdir(parents=True)
    file.write_bytes(PLAN)
    return file


def make_manifest(**changes):
    whole = Manifest(
        plan_sha256=hashlib.sha256(PLAN).hexdigest(),
        plan_bytes=len(PLAN),
        runtime="tensorrt",
        runtime_version="10.3.0.30",
        compute_capabilities=("8.7",),
        built_utc=BUILT,
        source=SourceModel("detector.onnx", "0" * 64),
        precision="int8",
        profiles=({"images": ShapeRange((1, 3, 64, 64), (4, 3, 64, 64), (8, 3, 64, 64))},),
        options={"workspace_mb": 512, "strongly_typed": True},
        plugins={"plugins/nms.so": "1" * 64},
        agreement={"boxes": {"cosine": 0.9997}},
    )
    return msgspec.structs.replace(whole, **changes)


def rtx_manifest(**changes):
    return make_manifest(**{"runtime": "tensorrt_rtx", "runtime_version": "1.4.0.76", **changes})


def check(plan_file, manifest, **changes):
    check_manifest(manifest, plan_file, **{**ON_ORIN, **changes})


def test_it_stands_beside_the_engine_and_comes_back_as_it_was(plan_file):
    path = write_manifest(plan_file, make_manifest())
    assert path == plan_file.with_name("model.plan.manifest.json") == manifest_path(plan_file)
    assert read_manifest(plan_file) == make_manifest()
    assert sorted(each.name for each in plan_file.parent.iterdir()) == ["model.plan", path.name]


def test_it_is_json_that_people_can_read(plan_file):
    tree = json.loads(write_manifest(plan_file, make_manifest()).read_text())
    assert tree["schema"] == "edgert.manifest/1"
    assert tree["built_utc"] == "2026-11-21T12:30:00Z"
    assert tree["profiles"] == [
        {"images": {"min": [1, 3, 64, 64], "opt": [4, 3, 64, 64], "max": [8, 3, 64, 64]}}
    ]


def test_others_may_read_what_a_builder_wrote(plan_file):
    path = write_manifest(plan_file, make_manifest())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_new_manifest_takes_the_place_of_the_old_one(plan_file):
    write_manifest(plan_file, make_manifest(precision="fp16"))
    write_manifest(plan_file, make_manifest(precision="int8"))
    assert read_manifest(plan_file).precision == "int8"


def test_a_write_that_fails_leaves_the_old_manifest(plan_file, monkeypatch):
    write_manifest(plan_file, make_manifest(precision="fp16"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="the manifest cannot be written: No space left on device"):
        write_manifest(plan_file, make_manifest(precision="int8"))
    assert read_manifest(plan_file).precision == "fp16"
    assert len(list(plan_file.parent.iterdir())) == 2


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path):
    with pytest.raises(ModelError, match="cannot be written: No such file or directory"):
        write_manifest(tmp_path / "absent" / "model.plan", make_manifest())


def test_an_engine_without_manifest_has_none(plan_file):
    assert read_manifest(plan_file) is None


def test_keys_of_the_future_are_ignored(plan_file):
    path = write_manifest(plan_file, make_manifest())
    path.write_text(json.dumps({**json.loads(path.read_text()), "signed_by": "somebody"}))
    assert read_manifest(plan_file) == make_manifest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "edgert.manifest/2"}, r"edgert\.manifest/2.*schema"),
        ({"plan_sha256": "ABC"}, "plan_sha256"),
        ({"plan_bytes": 0}, "plan_bytes"),
        ({"runtime": "onnxruntime"}, "onnxruntime"),
        ({"runtime_version": "ten"}, "runtime_version"),
        ({"compute_capabilities": ["sm_87"]}, "compute_capabilities"),
        ({"built_utc": "yesterday"}, "built_utc"),
        ({"source": {}}, "source"),
    ],
)
def test_a_manifest_that_is_none_is_refused(plan_file, change, message):
    path = write_manifest(plan_file, make_manifest())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    expected = (
        rf"model\.plan\.manifest\.json: not a manifest that edgert knows: .*{message}.*or remove this file"
    )
    with pytest.raises(ModelError, match=expected):
        read_manifest(plan_file)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(plan_file, content):
    manifest_path(plan_file).write_bytes(content)
    with pytest.raises(ModelError, match="not a manifest that edgert knows"):
        read_manifest(plan_file)


def test_a_manifest_has_a_bound(plan_file):
    manifest_path(plan_file).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ModelError, match="expected at most 1048576 bytes"):
        read_manifest(plan_file)


def test_a_manifest_that_cannot_be_read_is_refused(plan_file):
    manifest_path(plan_file).mkdir()
    with pytest.raises(ModelError, match="the manifest cannot be read: Is a directory"):
        read_manifest(plan_file)


def test_a_large_file_is_hashed_in_pieces(tmp_path):
    file = tmp_path / "large"
    content = os.urandom((1 << 20) + 12345)
    file.write_bytes(content)
    assert sha256_of(file) == hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match="absent: cannot be read: No such file"):
        sha256_of(tmp_path / "absent")


def test_the_engine_that_was_built_passes_on_its_device(plan_file):
    check(plan_file, make_manifest())


def test_one_flipped_bit_is_noticed(plan_file):
    content = bytearray(PLAN)
    content[len(content) // 2] ^= 1
    plan_file.write_bytes(content)
    expected = (
        rf"model\.plan: the engine is damaged or was replaced: found SHA-256 {sha256_of(plan_file)}, its "
        rf"manifest says SHA-256 {make_manifest().plan_sha256}\. Copy both .* "
        r"run: edgert build MODEL\.onnx --store .* --name detector$"
    )
    with pytest.raises(ModelError, match=expected):
        check(plan_file, make_manifest())


def test_damage_is_told_before_a_version_that_does_not_fit(plan_file):
    plan_file.write_bytes(PLAN[:-1])
    with pytest.raises(ModelError, match="found 4095 bytes, its manifest says 4096 bytes") as caught:
        check(plan_file, make_manifest(), runtime_version=(11, 1, 0))
    assert not isinstance(caught.value, EngineMismatchError)


def test_an_absent_engine_is_told(plan_file):
    plan_file.unlink()
    with pytest.raises(ModelError, match="the engine cannot be read: No such file"):
        check(plan_file, make_manifest())


def test_a_mismatch_names_both_sides_and_the_remedy(plan_file):
    expected = (
        r"model\.plan: was built for compute 8\.7 with TensorRT 10\.3\.0; this device is 9\.0 with "
        r"TensorRT 10\.16\.2: an engine runs only with the version that built it\. "
        r"Run: edgert build MODEL\.onnx --store .* --name detector$"
    )
    with pytest.raises(EngineMismatchError, match=expected):
        check(plan_file, make_manifest(), runtime_version=(10, 16, 2, 10), compute_capability="9.0")


def test_the_build_number_may_differ(plan_file):
    check(plan_file, make_manifest(), runtime_version=(10, 3, 0, 26))


@pytest.mark.parametrize("version", [(10, 3, 1), (10, 2, 0), (10, 4, 0), (11, 3, 0)])
def test_a_plain_engine_needs_its_own_version(plan_file, version):
    with pytest.raises(EngineMismatchError, match="runs only with the version that built it"):
        check(plan_file, make_manifest(), runtime_version=version)


@pytest.mark.parametrize(
    ("built", "running"),
    [
        ("10.3.0.30", (10, 3, 0)),
        ("10.3.0.30", (10, 16, 2, 10)),
        ("10.3.0.30", (11, 4, 0, 106)),
        ("8.6.1", (10, 3, 0)),
        ("11.0.0", (11, 1, 0)),
    ],
)
def test_a_version_compatible_engine_moves_forward(plan_file, built, running):
    check(plan_file, make_manifest(version_compatible=True, runtime_version=built), runtime_version=running)


@pytest.mark.parametrize(
    ("built", "running", "reason"),
    [
        ("10.7.0", (10, 3, 0), "with its own version or a later one"),
        ("11.1.0", (10, 16, 2), "with its own version or a later one"),
        ("8.6.1", (11, 1, 0), "too far apart"),
    ],
)
def test_but_not_back_and_not_across_two_majors(plan_file, built, running, reason):
    with pytest.raises(EngineMismatchError, match=reason):
        check(
            plan_file, make_manifest(version_compatible=True, runtime_version=built), runtime_version=running
        )


@pytest.mark.parametrize("runtime", ["tensorrt_lean", "tensorrt_dispatch"])
def test_lean_and_dispatch_need_version_compatible_engines(plan_file, runtime):
    check(plan_file, make_manifest(version_compatible=True), runtime=runtime)
    with pytest.raises(EngineMismatchError, match="needs an engine that is built version-compatible"):
        check(plan_file, make_manifest(), runtime=runtime)


def test_tensorrt_and_tensorrt_rtx_do_not_mix(plan_file):
    message = (
        "with TensorRT 10.3.0; this device is 8.7 with TensorRT-RTX 1.4.0: neither runs engines of the other"
    )
    with pytest.raises(EngineMismatchError, match=message):
        check(plan_file, make_manifest(), runtime="tensorrt_rtx", runtime_version=(1, 4, 0, 76))
    with pytest.raises(EngineMismatchError, match="neither runs engines of the other"):
        check(plan_file, rtx_manifest())


@pytest.mark.parametrize("version", [(1, 5, 0, 114), (1, 4, 1), (1, 3, 0)])
def test_tensorrt_rtx_needs_its_own_version(plan_file, version):
    on_rtx = {"runtime": "tensorrt_rtx", "compute_capability": "9.0"}
    check(plan_file, rtx_manifest(), runtime_version=(1, 4, 0, 80), **on_rtx)
    with pytest.raises(EngineMismatchError, match="runs only with the version that built it"):
        check(plan_file, rtx_manifest(), runtime_version=version, **on_rtx)
    with pytest.raises(EngineMismatchError, match="runs only with the version that built it"):
        check(plan_file, rtx_manifest(version_compatible=True), runtime_version=version, **on_rtx)


@pytest.mark.parametrize("level", ["none", "same_compute_capability"])
def test_the_compute_capability_is_exact(plan_file, level):
    manifest = make_manifest(compute_capabilities=("8.6", "8.7"), hardware_compatibility=level)
    check(plan_file, manifest)
    with pytest.raises(
        EngineMismatchError, match=r"compute 8\.6 or 8\.7 .* device is 8\.9 .* only on the compute"
    ):
        check(plan_file, manifest, compute_capability="8.9")


def test_an_engine_for_ampere_and_later_runs_on_these(plan_file):
    manifest = make_manifest(compute_capabilities=("8.6",), hardware_compatibility="ampere_plus")
    for capability in ("8.0", "8.7", "12.1"):
        check(plan_file, manifest, compute_capability=capability)
    with pytest.raises(EngineMismatchError, match=r"this device is 7\.2 .* needs compute 8\.0 or later"):
        check(plan_file, manifest, compute_capability="7.2")


def test_tensorrt_rtx_runs_on_what_is_later_than_it_was_built_for(plan_file):
    manifest = rtx_manifest(compute_capabilities=("8.6", "12.0"))
    on_rtx = {"runtime": "tensorrt_rtx", "runtime_version": (1, 4, 0, 76)}
    for capability in ("8.6", "9.0", "12.1"):
        check(plan_file, manifest, compute_capability=capability, **on_rtx)
    with pytest.raises(EngineMismatchError, match="the engine needs a later device"):
        check(plan_file, manifest, compute_capability="8.0", **on_rtx)


@pytest.mark.parametrize("capability", ["8.7", "7.5", "11.0"])
def test_an_engine_for_any_device_is_not_held_against_one(plan_file, capability):
    check(plan_file, make_manifest(compute_capabilities=()), compute_capability=capability)


@pytest.mark.parametrize("unknown", [None, ""])
def test_without_a_device_only_the_rest_is_checked(plan_file, unknown):
    check(plan_file, make_manifest(), compute_capability=unknown)
    with pytest.raises(EngineMismatchError, match=r"with TensorRT 10\.3\.0; here is TensorRT 11\.1\.0: "):
        check(plan_file, make_manifest(), compute_capability=unknown, runtime_version=(11, 1, 0))
