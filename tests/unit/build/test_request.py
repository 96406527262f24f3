"""The command line of `edgert build`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from edgert.build.arguments import BUILD_EXAMPLES, add_build
from edgert.build.options import Reduction
from edgert.build.request import check_packages, read_request
from edgert.errors import ConfigError, ModelError
from edgert.models.completion import AUTO_MAX_BATCH_SIZE
from edgert.models.manifest import ShapeRange
from tests.fakes.store import Site


def parse(text):
    parser = argparse.ArgumentParser("edgert build", exit_on_error=False)
    add_build(parser)
    return parser.parse_args(shlex.split(text))


def read(site, text):
    return list(read_request(parse(f"{text} --store {site.store}")))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_options_are_read(site):
    [options] = read(
        site,
        "dir/best.onnx --runtime tensorrt_rtx --precision fp16 --batch 1,8 --top-k 50 --scores s --boxes b "
        "--compute 8.6,8.9 --workspace-mb 64 --tolerance 0.1 --force --keep-previous 2",
    )
    assert (options.model, options.name, options.runtime) == (Path("dir/best.onnx"), "best", "tensorrt_rtx")
    assert (options.precision, options.batches, options.compute) == ("fp16", (1, 8), ("8.6", "8.9"))
    assert options.reduction == Reduction(50, "b", "s")
    assert (options.workspace_mb, options.tolerance, options.forced, options.keep_previous) == (
        64,
        0.1,
        True,
        2,
    )
    assert not options.version_compatible


def test_lean_implies_version_compatible(site):
    [options] = read(site, "best.onnx --runtime tensorrt_lean --hardware-compatible ampere_plus --dla-core 0")
    assert options.version_compatible
    assert (options.hardware_compatibility, options.dla_core) == ("ampere_plus", 0)


def test_each_shapes_option_is_a_profile(site):
    [options] = read(site, "best.onnx --runtime tensorrt_rtx --shapes x=1x3 --shapes x=1x3:2x3:4x3")
    assert options.shapes == (
        {"x": ShapeRange((1, 3), (1, 3), (1, 3))},
        {"x": ShapeRange((1, 3), (2, 3), (4, 3))},
    )


def test_an_engine_per_batch_is_a_model_per_batch(site):
    site.add("best", settings='[engine]\nruntime = "tensorrt_rtx"\n')
    found = read(site, "best.onnx --engine-per-batch --batch 1,4")
    assert [(each.name, each.fixed_batch, each.batches, each.like) for each in found] == [
        ("best-b1", 1, (), "best"),
        ("best-b4", 4, (), "best"),
    ]
    assert {each.runtime for each in found} == {"tensorrt_rtx"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected MODEL.onnx, or --rollback MODEL"),
        ("m.onnx --engine-per-batch", "--engine-per-batch: expected the sizes too"),
        ("m.onnx --batch 4 --shapes x=1x3", "--shapes and --batch both say"),
        ("m.onnx --dla-core -1", "--dla-core -1: expected 0 or more"),
        ("m.onnx --boxes b", "--boxes and --scores are for --top-k N"),
        ("m.onnx --name a/b", "--name 'a/b': expected a name without"),
        ("m.onnx --frames /no/such", "--frames /no/such: no such file or folder"),
    ],
)
def test_what_does_not_go_together_is_said(site, text, message):
    with pytest.raises(ConfigError, match=message):
        read(site, f"{text} --runtime tensorrt_rtx")


def test_a_store_that_could_not_be_made_is_said_before_the_build(site):
    with pytest.raises(
        ConfigError, match=r"--store .*absent/store: no such folder, and none that it could be"
    ):
        list(read_request(parse(f"m.onnx --store {site.folder}/absent/store")))


def test_the_model_to_be_like_has_to_be_there(site):
    with pytest.raises(ModelError, match="Model 'coco' is not in the store"):
        read(site, "m.onnx --like coco --runtime tensorrt_rtx")


@pytest.mark.parametrize(
    "text",
    ["m --batch 0", "m --batch 1,1", "m --batch x", "m --tolerance 2", "m --precision fp8", "m --top-k 0"],
)
def test_values_that_cannot_be_are_refused(site, text, capsys):
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        read(site, text)


def test_the_help_tells_the_default_batch():
    parser = argparse.ArgumentParser("edgert build")
    add_build(parser)
    assert f"max_batch_size, or {AUTO_MAX_BATCH_SIZE}" in " ".join(parser.format_help().split())


def test_missing_packages_are_named_with_the_extra():
    with pytest.raises(ConfigError, match=r"needs onnx, not found here. Run: pip install 'edgert\[build\]'"):
        check_packages(lambda name: None if name == "onnx" else name)
    with pytest.raises(ConfigError, match="needs onnx and onnxruntime"):
        check_packages(lambda _: None)
    check_packages()


def test_every_example_can_be_read():
    for line in BUILD_EXAMPLES.splitlines():
        if line.startswith("  edgert build "):
            command = line.split("   ")[0].strip().removeprefix("edgert build ")
            assert parse(command).store == Path("store")
