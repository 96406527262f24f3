"""Real engines against each other: onnxruntime on both sides, one of them in FP16."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import onnx
import pytest

from edgert.build.agreement import as_absence, as_record, compare_version, obstacle
from edgert.build.compare import LIMITS, limits_for
from edgert.build.onnx_file import read_onnx
from edgert.build.pictures import list_pictures
from edgert.build.precision import to_fp16
from edgert.build.subjects import EngineSubject
from edgert.build.target import plan_of
from edgert.device.board import CudaDriverProbe
from edgert.device.opened import open_device
from edgert.errors import ConfigError, DeviceError, ModelError
from edgert.execute.onnx_engine import load_onnx_engine
from edgert.models.store import ModelStore
from tests.fakes.onnx_graphs import always, convolution, graph, save, scaled
from tests.fakes.store import SSD_BOXES, SSD_SCORES, Site

CLASSIFY = '[prepare]\nfit = "stretch"\n[decode]\nkind = "classify"\n'
SSD = '[prepare]\nfit = "stretch"\n[decode]\nkind = "ssd"\n'


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        noise = np.random.default_rng(seed).integers(0, 255, (3, 3, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(noise, (40, 30)))
    (folder / "notes.txt").touch()
    return list_pictures([folder])


def compare(site, reference, candidate, pictures, *, settings, config="max_batch_size: 4\n", limits=None):
    source = save(site.folder, reference, "source.onnx")
    site.add("model", candidate.SerializeToString(), settings=settings, config=config)
    entry = ModelStore(site.store).entry("model")
    [version] = entry.versions()
    return compare_version(plan_of(entry), version, source, pictures, limits or LIMITS["fp16"])


def half(tmp_path, model):
    return to_fp16(read_onnx(save(tmp_path, model, "half.onnx"))).model


def test_fp16_is_near_fp32(tmp_path, pictures):
    model = convolution()
    found = compare(Site(tmp_path), model, half(tmp_path, model), pictures, settings=CLASSIFY)
    assert found.is_near, found.problems
    assert found.pictures == 6
    [logits] = found.outputs
    assert 0.999 < logits.cosine <= 1.0
    assert 0 < logits.relative_error < 0.02
    assert (found.agreement.kind, found.agreement.share) == ("best class", 1.0)
    assert as_record(found)["near"] is True


def test_another_model_is_not_near(tmp_path, pictures):
    found = compare(Site(tmp_path), convolution(), convolution(seed=1), pictures, settings=CLASSIFY)
    assert not found.is_near
    assert "output 'logits' has a cosine of" in found.problems[0]


def test_a_tolerance_may_allow_it(tmp_path, pictures):
    wide = limits_for("fp16", 1.0)
    found = compare(Site(tmp_path), scaled(2.0), scaled(2.5), pictures, settings="", limits=wide)
    assert found.is_near
    assert found.outputs[0].relative_error == pytest.approx(0.25, abs=1e-3)


def test_an_engine_of_one_batch_size_is_compared(tmp_path, pictures):
    candidate = convolution(batch=4)
    found = compare(
        Site(tmp_path), convolution(), candidate, pictures, settings=CLASSIFY, config="max_batch_size: 0\n"
    )
    assert found.is_near
    assert found.pictures == 6


def test_detections_are_compared_with_fewer_rows(tmp_path, pictures):
    boxes, scores = np.array(SSD_BOXES), np.array(SSD_SCORES)
    more = always({"boxes": np.vstack([boxes, boxes[:1]]), "scores": np.vstack([scores, [[0, 0.1]]])})
    found = compare(Site(tmp_path), more, always({"boxes": boxes, "scores": scores}), pictures, settings=SSD)
    assert found.is_near
    assert found.outputs == ()
    assert (found.agreement.share, found.agreement.compared) == (1.0, 12)


def test_a_model_with_several_inputs_cannot_be_compared(tmp_path, pictures):
    model = scaled()
    extra = onnx.helper.make_tensor_value_info("other", 1, ["batch", 1])
    model.graph.input.append(extra)
    with pytest.raises(ModelError, match="has the inputs image, other; only one picture can be compared"):
        compare(Site(tmp_path), model, model, pictures, settings="")


def test_preparation_that_does_not_fit_is_named(tmp_path, pictures):
    with pytest.raises(ModelError, match=r"edgert.toml: \[prepare\]: "):
        compare(Site(tmp_path), scaled(), scaled(), pictures, settings='[prepare]\ncolour = "gray"\n')


def test_a_comparison_needs_a_gpu_where_the_engine_does(tmp_path):
    without, present = CudaDriverProbe(None, "none"), CudaDriverProbe((13, 0))
    some = [tmp_path / "a.jpg"]
    assert isinstance(obstacle("tensorrt_rtx", some, lambda: without), DeviceError)
    assert obstacle("tensorrt_rtx", some, lambda: present) is None
    assert obstacle("onnxruntime", some, lambda: without) is None
    assert isinstance(obstacle("onnxruntime", [], lambda: present), ConfigError)
    absence = as_absence(obstacle("tensorrt", some, lambda: without))
    assert absence == {"made": False, "reason": "this machine has no GPU to run the engine"}


def test_an_engine_that_fails_fails_the_comparison(tmp_path):
    from tests.fakes.store import failing_model

    path = tmp_path / "store" / "failing" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(failing_model())
    device = open_device("host")
    engine = load_onnx_engine(path, 1, device.driver.allocate)
    subject = EngineSubject(engine, device, 1)
    dark, bright = (np.full((1, 3, 8, 8), value, np.float32) for value in (10, 200))
    assert subject.run({"image": dark})["picked"].tolist() == [[42.0]]
    with pytest.raises(ModelError):
        subject.run({"image": bright})
    assert subject.run({"image": dark})["picked"].tolist() == [[42.0]]
    subject.close()
    engine.close()
    device.close()


def test_an_output_may_be_a_scalar(tmp_path):
    nodes = [onnx.helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    path = save(tmp_path, graph(nodes, {"image": [1, 3, 8, 8]}, {"mean": []}))
    device = open_device("host")
    engine = load_onnx_engine(path, 1, device.driver.allocate)
    subject = EngineSubject(engine, device, 1)
    outputs = subject.run({"image": np.full((1, 3, 8, 8), 10, np.float32)})
    assert (outputs["mean"].shape, float(outputs["mean"])) == ((), 10.0)
    subject.close()
    engine.close()
    device.close()


def test_pictures_are_found_in_folders_and_by_name(tmp_path, pictures):
    assert [path.name for path in pictures] == [f"{n}.png" for n in range(6)]
    copy = tmp_path / "one.JPG"
    shutil.copy(pictures[0], copy)
    assert list_pictures([copy, pictures[0].parent]) == (copy, *pictures)


def test_where_there_is_no_picture_it_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"--frames .*absent: no such file or folder"):
        list_pictures([tmp_path / "absent"])
    with pytest.raises(ConfigError, match=r"holds no picture, expected files ending in \.jpg"):
        list_pictures([tmp_path])


def test_a_picture_that_is_damaged_is_named(tmp_path, pictures):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8nothing")
    with pytest.raises(ConfigError, match=r"--frames .*broken.jpg: cannot be read"):
        compare(Site(tmp_path), scaled(), scaled(), [broken], settings="")
