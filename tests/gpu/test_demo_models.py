"""The demo's models on the GPU against the same models on onnxruntime, on real pictures.

They are taken from the demo's cache, which `python -m edgert.demo.material` fills where there is a network.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgert.capture.replay import decode_clip
from edgert.client import Client
from edgert.demo.material import default_cache
from edgert.demo.store import CLASSIFY, COCO, FACE
from tests.fakes.line import WAIT_S, Line
from tests.fakes.store import Site
from tests.gpu.plans import batches, build_plan

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

DEMO = default_cache()  # before a test gets a cache of its own
ITEMS = {"coco": (3, 300, 300), "face": (3, 160, 192), "classify": (3, 224, 224)}
TEXTS = {"coco": COCO, "face": FACE, "classify": CLASSIFY}
SCORE_MIN = {"coco": 0.4, "face": 0.5}  # as the demo's models say
# Where two neighbouring cells of CenterFace score alike, noise decides which of them is the face: 4 px apart.
IOU_MIN = {"coco": 0.9, "face": 0.8}
SCORE_MAX_APART = 0.02
LARGEST_BATCH = 4


def demo(*parts):
    """Return a file or folder of the demo's cache, or skip."""
    path = DEMO.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}; where there is a network: python -m edgert.demo.material")
    return path


def add_for_host(site, name):
    text, model = TEXTS[name], demo(name, "model.onnx").read_bytes()
    labels = demo(name, "labels.txt").read_text()
    site.add(name, model, config=text.config_pbtxt, settings=text.edgert_toml, labels=labels)


def add_for_gpu(site, name):
    text = TEXTS[name]
    assert '"onnxruntime_onnx"' in text.config_pbtxt
    folder = site.add(
        name,
        config=text.config_pbtxt.replace('"onnxruntime_onnx"', '"tensorrt_plan"'),
        settings='[engine]\nruntime = "tensorrt_rtx"\n' + text.edgert_toml,
        labels=demo(name, "labels.txt").read_text(),
    )
    profile = batches("images", ITEMS[name], LARGEST_BATCH)
    build_plan(demo(name, "model.onnx"), folder / "1" / "model.plan", profile)


def ask(folder, add, name, pictures):
    """Return the model's results for pictures, sent one after the other."""
    folder.mkdir()
    site = Site(folder)
    add(site, name)
    uri = f"router+bind:ipc://{folder}/in"
    file = site.load(f'[sources.in]\nuri = "{uri}"\nmodels = ["{name}"]\n')
    with Line(file), Client(uri) as client:
        return [client.infer(picture, timeout_s=WAIT_S) for picture in pictures]


def both(tmp_path, name, pictures):
    """Return results of the GPU and of the host, picture by picture."""
    sides = (("gpu", add_for_gpu), ("host", add_for_host))
    return list(zip(*(ask(tmp_path / side, add, name, pictures) for side, add in sides), strict=True))


def photographs(count=13):
    """Return the demo's pictures, as the bytes of JPEG files."""
    return [path.read_bytes() for path in sorted(demo("pictures").glob("*.jpg"))[:count]]


def clip(name, step):
    """Return every `step`th picture of one of the demo's clips."""
    return decode_clip(demo("clips", name), 0)[::step]


def overlap(one, other):
    """Return the intersection over union of two boxes x1 y1 x2 y2."""
    (a, b), (c, d) = np.reshape(one, (2, 2)), np.reshape(other, (2, 2))
    common = np.clip(np.minimum(b, d) - np.maximum(a, c), 0, None).prod()
    union = (b - a).prod() + (d - c).prod() - common
    return common / union if union else 0.0


def demand_matched(name, ones, others):
    """Find for each detection its like on the other side, but for those that the threshold decides."""
    for found in ones:
        alike = [
            other
            for other in others
            if other["class_index"] == found["class_index"]
            and overlap(found["box_xyxy_px"], other["box_xyxy_px"]) > IOU_MIN[name]
            and abs(found["score"] - other["score"]) < SCORE_MAX_APART
        ]
        assert alike or found["score"] < SCORE_MIN[name] + SCORE_MAX_APART, f"{found} has no like in {others}"


@pytest.mark.parametrize(
    ("name", "least", "pictures"),
    [
        ("coco", 10, lambda: clip("bikes.mp4", 16) + photographs()),
        ("face", 10, lambda: clip("carphone_pristine.mp4", 8)),
    ],
    ids=["coco", "face"],
)
def test_detections_are_those_of_the_host(tmp_path, name, least, pictures):
    count = 0
    for on_gpu, on_host in both(tmp_path, name, pictures()):
        found, expected = on_gpu["detections"], on_host["detections"]
        demand_matched(name, expected, found)
        demand_matched(name, found, expected)
        count += len(expected)
    assert count >= least, f"The host found {count} boxes in all pictures: the test says little."


def test_best_classes_are_those_of_the_host(tmp_path):
    for on_gpu, on_host in both(tmp_path, "classify", photographs()):
        found, expected = on_gpu["classes"][0], on_host["classes"][0]
        assert found["class_index"] == expected["class_index"], (on_gpu["classes"], on_host["classes"])
        assert abs(found["score"] - expected["score"]) < SCORE_MAX_APART
