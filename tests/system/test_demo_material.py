"""The real packages and networks. Needs the network once; after that the cache is enough.

Where a package cannot be fetched the tests skip with the reason, except in CI (`CI=true`), where they fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from edgert.demo.fetch import Archive, FetchError, download, hash_file
from edgert.demo.material import Material, default_cache, prepare_material
from edgert.demo.recipes import RECIPES

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def skip(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def material() -> Material:
    try:
        return prepare_material(default_cache(), print)
    except FetchError as error:
        return skip(str(error))


@pytest.fixture
def coco(material):
    return material.coco or skip(material.left_out[0])


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def frames_of(clip: Path, indices) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(clip))
    frames = []
    while True:
        is_read, frame_hwc = capture.read()
        if not is_read:
            break
        frames.append(frame_hwc)
    capture.release()
    return [frames[index] for index in indices]


def tensor_of(
    image_hwc: np.ndarray, width: int, height: int, mean: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """Stretch a BGR picture into (1, 3, height, width), RGB."""
    rgb_hwc = cv2.resize(image_hwc, (width, height))[..., ::-1].astype(np.float32)
    return np.ascontiguousarray(((rgb_hwc - mean) * scale).transpose(2, 0, 1)[None])


def centre_of(image_hwc: np.ndarray, keep: float) -> np.ndarray:
    height, width = image_hwc.shape[:2]
    side = round(min(height, width) * keep)
    top, left = (height - side) // 2, (width - side) // 2
    return image_hwc[top : top + side, left : left + side]


def assert_batches_agree(session: onnxruntime.InferenceSession, tensor: np.ndarray) -> None:
    """Each output of a batch is what the images give one by one."""
    singles = [session.run(None, {"images": tensor[index : index + 1]}) for index in range(len(tensor))]
    for index, together in enumerate(session.run(None, {"images": tensor})):
        np.testing.assert_allclose(together, np.concatenate([one[index] for one in singles]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coco", {"images": (3, 300, 300), "boxes": (1917, 4), "scores": (1917, 90)}),
        (
            "face",
            {
                "images": (3, 160, 192),
                "heatmap": (1, 40, 48),
                "scale": (2, 40, 48),
                "offset": (2, 40, 48),
                "landmarks": (10, 40, 48),
            },
        ),
        ("classify", {"images": (3, 224, 224), "logits": (1000,)}),
    ],
)
def test_models_are_valid_and_say_their_shapes(material, name, expected):
    files = getattr(material, name) or skip(material.left_out[0])
    onnx.checker.check_model(str(files.model), full_check=True)
    model = onnx.load(files.model)
    tensors = [*model.graph.input, *model.graph.output]
    shapes = {
        tensor.name: [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        for tensor in tensors
    }
    assert shapes == {tensor: ["batch", *shape] for tensor, shape in expected.items()}
    assert [opset.version for opset in model.opset_import] == [13]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_the_detector_finds_the_cyclist(material, coco):
    session, labels = session_of(coco.model), coco.labels.read_text().splitlines()
    (frame,) = frames_of(material.street_clip, [116])
    boxes, scores = session.run(None, {"images": tensor_of(frame, 300, 300, 127.5, 1 / 127.5)})
    found = {}
    for label in ("person", "bicycle"):
        column = scores[0, :, labels.index(label)]
        found[label] = (column.max(), boxes[0, column.argmax()])
    assert found["person"][0] > 0.8
    assert found["bicycle"][0] > 0.4
    # Both stand right of the middle, the bicycle in the lower half: ymin xmin ymax xmax.
    np.testing.assert_allclose(found["person"][1], [0.03, 0.55, 0.99, 0.75], atol=0.05)
    np.testing.assert_allclose(found["bicycle"][1], [0.49, 0.56, 0.99, 0.79], atol=0.05)
    assert labels[scores[0].max(axis=0).argmax()] == "person"


def test_the_detector_runs_batches(material, coco):
    frames = frames_of(material.street_clip, [0, 80, 116, 240])
    tensors = [tensor_of(frame, 300, 300, 127.5, 1 / 127.5) for frame in frames]
    assert_batches_agree(session_of(coco.model), np.concatenate(tensors))


def test_the_face_is_found_in_every_sampled_frame(material):
    session = session_of(material.face.model)
    frames = frames_of(material.driver_clip, np.linspace(0, 119, 20).astype(int))
    for frame in frames:
        heatmap, scale, *_ = session.run(None, {"images": tensor_of(frame, 192, 160)})
        row, column = np.unravel_index(heatmap[0, 0].argmax(), heatmap.shape[2:])
        assert heatmap[0, 0, row, column] > 0.8
        height, width = np.exp(scale[0, :, row, column]) * 4
        assert 40 < width < height < 140


def test_the_face_detector_runs_batches(material):
    frames = frames_of(material.driver_clip, [0, 60, 119])
    assert_batches_agree(
        session_of(material.face.model), np.concatenate([tensor_of(f, 192, 160) for f in frames])
    )


def test_the_classifier_knows_18_of_20_pictures(material):
    session, labels = session_of(material.classify.model), material.classify.labels.read_text().splitlines()
    right = []
    for path in material.pictures:
        tensor = tensor_of(centre_of(cv2.imread(str(path)), 0.875), 224, 224, 127, 1 / 128)
        (logits,) = session.run(None, {"images": tensor})
        if logits[0].argmax() == int(path.stem.split("_")[-1]):  # the label ends the file's name
            right.append(labels[logits[0].argmax()])
    assert len(right) >= 18
    assert {"bald eagle", "strawberry", "folding chair", "dung beetle"} <= set(right)


def test_the_classifier_runs_batches(material):
    pictures = [cv2.imread(str(path)) for path in material.pictures[:3]]
    tensors = [tensor_of(picture, 224, 224, 127, 1 / 128) for picture in pictures]
    assert_batches_agree(session_of(material.classify.model), np.concatenate(tensors))


def test_a_second_run_takes_under_50_ms_and_says_nothing(material):
    def refuse(archive: Archive, folder: Path) -> Path:
        raise AssertionError(f"{archive.title} was fetched again")

    lines: list[str] = []
    start_s = time.perf_counter()
    again = prepare_material(default_cache(), lines.append, fetch=refuse)
    took_s = time.perf_counter() - start_s
    assert again == material
    assert lines == list(material.left_out)
    assert took_s < 0.05


def test_the_cache_holds_what_the_recipes_make_and_no_archives(material):
    names = {path.name for path in default_cache().iterdir()}
    assert names <= {".lock", *(recipe.name for recipe in RECIPES)}
    suffixes = {path.suffix for path in default_cache().rglob("*") if path.is_file()}
    assert suffixes == {"", ".json", ".jpg", ".mp4", ".onnx", ".txt"}


@pytest.fixture
def offline_wheel(tmp_path, monkeypatch):
    """Return a small wheel in a folder that is all of pip's world."""
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/a.bin", b"a")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "download").mkdir()
    return path


def test_pip_itself_fetches_a_wheel(offline_wheel):
    size_bytes = offline_wheel.stat().st_size
    archive = Archive("pip", "thing", "1.0", hash_file(offline_wheel), size_bytes, ("thing/a.bin",))
    assert download(archive, offline_wheel.parent / "download").name == offline_wheel.name


def test_pip_without_a_way_to_the_package_says_what_to_do(offline_wheel):
    archive = Archive("pip", "absent-thing", "1.0", "0" * 64, 1, ("*",))
    with pytest.raises(FetchError, match=r"No matching distribution found for absent-thing==1\.0") as caught:
        download(archive, offline_wheel.parent / "download")
    assert "Check the network and pip's index and proxy settings" in str(caught.value)


def test_the_command_says_what_it_did(material):
    command = [sys.executable, "-m", "edgert.demo.material"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "face, classify; 2 clips; 20 pictures; 0." in done.stdout
