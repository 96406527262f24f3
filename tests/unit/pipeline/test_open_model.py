"""Checking a version's parts without a GPU."""

from __future__ import annotations

import pytest

from edgert.errors import EngineMismatchError, ModelError
from edgert.models.manifest import manifest_path
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.loaded_model import LoadedModel
from edgert.pipeline.open_model import check_model, lane_options_of
from tests.fakes import store
from tests.fakes.plan_file import add_manifest, write_plan
from tests.fakes.store import EXACT, Site

RTX = '[engine]\nruntime = "tensorrt_rtx"\n'


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def plan_of(site, model):
    text = f'[sources.door]\nuri = "replay:noise"\nmodels = ["{model}"]\n'
    return PipelineFile.load(site.write(text)).plan(model)


def check(site, model="m"):
    """Check the newest version of a model."""
    plan = plan_of(site, model)
    check_model(plan, plan.entry.chosen_versions()[-1])


def add_plan(site, settings=EXACT, **plan):
    """Add a model whose engine file has a header and nothing behind it; return that file."""
    return write_plan(site.add("m", settings=settings) / "1" / "model.plan", **plan)


# Engines for a GPU


def test_a_plan_of_the_models_runtime_passes_without_a_gpu(site):
    add_plan(site)
    check(site)


def test_a_plan_of_the_other_family_is_refused(site):
    add_plan(site, RTX)
    with pytest.raises(EngineMismatchError, match=r"was built by tensorrt 10.*runtime is tensorrt_rtx"):
        check(site)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"ftrt", "truncated"),
        (b"PK\x03\x04" + bytes(40), "a ZIP file, such as a PyTorch model"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_by_what_it_looks_like(site, content, said):
    add_plan(site).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        check(site)


def test_a_plan_without_its_manifest_is_refused_where_one_is_required(site):
    file = add_plan(site, "[engine]\nmanifest_required = true\n")
    with pytest.raises(ModelError, match="has no manifest, and manifest_required is set"):
        check(site)
    add_manifest(file)
    check(site)


def test_a_manifest_that_cannot_be_read_is_refused(site):
    manifest_path(add_plan(site)).write_text("[]")
    with pytest.raises(ModelError, match="not a manifest that edgert knows"):
        check(site)


def test_the_version_that_is_checked_is_the_one_that_was_named(site):
    settings = '[engine]\nruntime = "tensorrt"\n'
    add_plan(site, settings)
    site.add("m", version=2, settings=settings)
    plan = plan_of(site, "m")
    one, two = plan.entry.versions()
    check_model(plan, one)
    with pytest.raises(ModelError, match=r"m/2: looked for model\.plan"):
        check_model(plan, two)


@pytest.fixture(scope="module")
def rtx_plan(tmp_path_factory):
    """A real plan of TensorRT-RTX, built without a GPU; returns its bytes."""
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")
    from tests.gpu.plans import batches, build_plan

    folder = tmp_path_factory.mktemp("plan")
    model = folder / "model.onnx"
    model.write_bytes(store.mean_model())
    return build_plan(model, folder / "model.plan", batches("image", (3, 8, 8), 4)).read_bytes()


def add_real(site, content, settings):
    (site.add("m", settings=settings) / "1" / "model.plan").write_bytes(content)


def test_a_real_plan_passes(site, rtx_plan):
    add_real(site, rtx_plan, RTX)
    check(site)


def test_a_real_plan_is_refused_by_another_runtime(site, rtx_plan):
    add_real(site, rtx_plan, '[engine]\nruntime = "tensorrt"\n')
    with pytest.raises(EngineMismatchError, match=r"was built by tensorrt_rtx 1\..*runtime is tensorrt\."):
        check(site)


@pytest.mark.parametrize("change", [lambda plan: plan[: len(plan) // 2], lambda plan: plan + b"more"])
def test_a_real_plan_that_lost_or_gained_bytes_is_refused(site, rtx_plan, change):
    add_real(site, change(rtx_plan), RTX)
    with pytest.raises(ModelError, match=f"it says that it has {len(rtx_plan)} bytes"):
        check(site)


# Engines of the host


def test_an_engine_of_the_host_is_loaded_and_nothing_of_it_is_left(site):
    site.add("m", store.mean_model())
    live = LoadedModel.live.count
    check(site)
    assert LoadedModel.live.count == live


def test_labels_that_do_not_fit_the_engine_are_refused(site):
    site.add(
        "m",
        store.ssd_model(),
        settings=EXACT + '[decode]\nkind = "ssd"\n[labels]\nfile = "labels.txt"\n',
        labels="cat\ndog\nbird\n",
    )
    with pytest.raises(ModelError, match=r"\[decode\]: The label file has 3 labels, the engine's output 2"):
        check(site)


def test_preparation_that_does_not_fit_the_engine_is_refused(site):
    site.add("m", store.mean_model(), settings='[prepare]\ncolour = "gray"\n')
    with pytest.raises(ModelError, match=r"edgert\.toml: \[prepare\]: colour 'gray' has 1 channels"):
        check(site)


def test_a_model_without_an_engine_passes(site):
    site.add_noop("m")
    check(site)


# Lanes


def test_lanes_are_opened_as_the_model_says(site):
    add_plan(site, '[engine]\ngraphs = 3\npriority = 2\nscratch_group = "g"\n')
    options = lane_options_of(plan_of(site, "m"))
    assert (options.graphs, options.priority, options.scratch_group, options.is_timed) == (3, 2, "g", False)
