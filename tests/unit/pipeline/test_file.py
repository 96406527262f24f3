"""What a pipeline file needs of the machine. What is wrong with one: tests/unit/test_pipeline_file.py."""

from __future__ import annotations

import pytest

from edgert.cli import main
from edgert.device.board import CudaDriverProbe
from edgert.exit_codes import ExitCode
from edgert.pipeline.file import PipelineFile
from tests.fakes import store
from tests.fakes.plan_file import write_plan
from tests.fakes.store import Site

RUNTIMES = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add_noop()
    site.add("mean", store.mean_model())
    return site


def device_name(site, *models, overrides=""):
    listed = ", ".join(f'"{model}"' for model in models)
    text = f'[sources.door]\nuri = "replay:noise"\nmodels = [{listed}]\n{overrides}'
    return PipelineFile.load(site.write(text)).device_name


def add_plan(site, name="plan", settings="", config=None, tag=b"ftrt", file="model.plan"):
    folder = site.add(name, settings=settings, config=config)
    write_plan(folder / "1" / file, tag=tag)
    return folder


def test_models_of_the_host_need_no_gpu(site):
    assert device_name(site, "noop", "mean") == "host"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_model_of_any_tensorrt_needs_a_gpu(site, runtime):
    add_plan(site, settings=f'[engine]\nruntime = "{runtime}"\n')
    assert device_name(site, "noop", "plan", "mean") == "cuda"


@pytest.mark.parametrize("config", ['platform: "tensorrt_plan"\n', 'backend: "tensorrt"\n', None])
def test_a_runtime_that_only_platform_backend_or_file_tell_counts_too(site, config):
    add_plan(site, config=config)
    assert device_name(site, "plan") == "cuda"


def test_models_that_no_source_feeds_need_nothing(site):
    add_plan(site)
    assert device_name(site, "noop") == "host"


def test_a_version_of_a_model_needs_what_the_model_needs(site):
    add_plan(site)
    assert device_name(site, "plan/1") == "cuda"


def test_a_runtime_that_the_pipeline_file_sets_counts(site):
    add_plan(site, settings='[engine]\nruntime = "tensorrt"\n')
    overrides = '[models.plan.engine]\nruntime = "noop"\n'
    assert device_name(site, "plan", overrides=overrides) == "host"


def test_plans_that_are_named_by_gpu_only_need_a_gpu(site):
    config = (
        'platform: "tensorrt_plan"\n'
        'cc_model_filenames [ { key: "8.7" value: "orin.plan" }, { key: "9.0" value: "h200.plan" } ]\n'
    )
    folder = add_plan(site, config=config, file="orin.plan")
    write_plan(folder / "1" / "h200.plan")
    assert device_name(site, "plan") == "cuda"


def test_a_damaged_plan_fails_the_check_as_it_would_fail_the_start(site, capsys):
    folder = add_plan(site, settings='[engine]\nruntime = "tensorrt_rtx"\n', tag=b"vtrt")
    plan = folder / "1" / "model.plan"
    plan.write_bytes(plan.read_bytes()[:-3])
    file = site.write('[sources.door]\nuri = "replay:noise"\nmodels = ["plan"]\n')
    assert main(["check", str(file)]) == ExitCode.MODEL
    assert "model.plan" in capsys.readouterr().err


def test_faults_of_several_kinds_are_the_configurations(site, capsys):
    plan = add_plan(site) / "1" / "model.plan"
    plan.write_bytes(b"")
    file = site.write('[sources.door]\nuri = "replay:nothing.mp4"\nmodels = ["plan"]\n')
    assert main(["check", str(file)]) == ExitCode.CONFIG


def test_engines_for_a_gpu_on_a_machine_without_one_are_a_warning(site, monkeypatch):
    add_plan(site)
    probe = CudaDriverProbe(None, "none (libcuda.so.1 is not there)")
    monkeypatch.setattr("edgert.pipeline.file.probe_cuda_driver", lambda: probe)
    loaded = PipelineFile.load(site.write('[sources.door]\nuri = "replay:noise"\nmodels = ["plan"]\n'))
    assert any("the driver here is none" in warning for warning in loaded.warnings())
