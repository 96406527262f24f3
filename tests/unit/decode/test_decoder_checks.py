from pathlib import Path

import msgspec
import pytest

from edgert.config import Document, Options
from edgert.decode.centerface import CenterFaceOptions
from edgert.decode.classify import ClassifyOptions
from edgert.decode.factory import DecodeOptions, open_decoder
from edgert.decode.ssd import SsdOptions
from edgert.decode.tensors import TensorsOptions
from edgert.decode.yolo import YoloOptions
from edgert.errors import ConfigError, ModelError
from edgert.models.tensor_spec import TensorSpec

TWO = ("cat", "dog")
SSD = {"boxes": (-1, 9, 4), "scores": (-1, 9, 2)}
FACES = {"a": (1, 1, 8, 8), "b": (1, 2, 8, 8), "c": (1, 2, 8, 8), "d": (1, 10, 8, 8)}


class Settings(Options, frozen=True, kw_only=True):
    decode: DecodeOptions = msgspec.field(default_factory=TensorsOptions)


def settings(tree: dict) -> DecodeOptions:
    return Document(Path("edgert.toml"), {"decode": tree}).as_type(Settings).decode


def open_with(options, labels, outputs):
    return open_decoder(options, labels, tuple(TensorSpec(n, "float32", s) for n, s in outputs.items()))


@pytest.mark.parametrize(
    ("options", "labels", "outputs", "text"),
    [
        (SsdOptions(), ("cat",), SSD, "1 labels, the engine's output 2 classes"),
        (SsdOptions(class_offset=1), TWO, SSD, "2 labels, the engine's output 1 classes"),
        (SsdOptions(class_offset=2), (), SSD, "class_offset is 2, the output has 2 classes"),
        (SsdOptions(boxes="box"), TWO, SSD, "no output 'box' as .* it has boxes, scores"),
        (SsdOptions(), TWO, {**SSD, "boxes": (-1, 8, 4)}, r"'boxes' is \(8, 4\) .* \(anchors 9, corners 4\)"),
        (SsdOptions(), TWO, {**SSD, "scores": (-1, 9)}, r"'scores' is \(9,\) .* \(anchors, classes\)"),
        (YoloOptions(head="v8"), TWO, {"o": (1, 84, 99)}, "2 labels, the engine's output 80 classes"),
        (YoloOptions(head="v5"), TWO, {"o": (1, 99, 85)}, "2 labels, the engine's output 80 classes"),
        (YoloOptions(head="v5"), (), {"o": (1, 99, 5)}, "has no classes; expected more than 5"),
        (YoloOptions(head="end2end"), (), {"o": (1, 99, 7)}, r"is \(99, 7\)"),
        (YoloOptions(head="v5"), (), {"o": (1, 9, 9), "p": (1, 9, 9)}, r"2 outputs \(o, p\). Set output"),
        (CenterFaceOptions(), TWO, FACES, "2 labels, the engine's output 1 classes"),
        (CenterFaceOptions(), (), {**FACES, "d": (1, 9, 8, 8)}, "No output of 10 channels for the landmarks"),
        (CenterFaceOptions(outputs=("a", "b", "c", "x")), (), FACES, "no output 'x'"),
        (CenterFaceOptions(outputs=("b", "a", "c", "d")), (), FACES, "heatmap channels 1, height, width"),
        (ClassifyOptions(), TWO, {"o": (-1, 3)}, "2 labels, the engine's output 3 classes"),
        (ClassifyOptions(), TWO, {"o": (-1, 3, 5)}, r"'o' is \(3, 5\) .* expected \(classes\)"),
        (ClassifyOptions(classes=("cta",)), TWO, {"o": (-1, 2)}, "names 'cta', .* did you mean 'cat'"),
        (SsdOptions(classes=("7",)), (), SSD, "names '7', which is no label; there are 2 labels"),
        (TensorsOptions(outputs=("x",)), (), {"o": (-1, 2)}, "no output 'x'"),
    ],
)
def test_what_does_not_fit_the_engine_is_refused(options, labels, outputs, text):
    with pytest.raises(ModelError, match=text):
        open_with(options, labels, outputs)


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        (SsdOptions(), {"boxes": (-1, -1, 4), "scores": (-1, -1, -1)}),
        (YoloOptions(head="v8"), {"o": (-1, -1, -1)}),
        (YoloOptions(head="v5"), {"o": (-1, -1, 7)}),
        (YoloOptions(head="end2end"), {"o": (-1, -1, 6)}),
        (ClassifyOptions(), {"o": (-1, -1)}),
    ],
)
def test_open_sides_fit_any_label_count(options, outputs):
    open_with(options, TWO, outputs)


def test_kind_chooses_the_options():
    assert settings({"kind": "ssd", "classes": ["cat"]}) == SsdOptions(classes=("cat",))
    assert settings({"kind": "yolo", "head": "v8"}) == YoloOptions(head="v8")
    assert settings({"kind": "centerface"}).iou_max == 0.3
    assert Document(Path("edgert.toml"), {}).as_type(Settings).decode == TensorsOptions()


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"kind": "sdd"}, "decode.kind"),
        ({"kind": "yolo"}, "key 'head' is missing"),
        ({"kind": "ssd", "score_min": 2}, "decode.score_min = 2"),
        ({"kind": "ssd", "skore": 2}, "unknown key 'skore'"),
        ({"kind": "classify", "top_k": 0}, "decode.top_k = 0"),
    ],
)
def test_wrong_settings_are_named(tree, text):
    with pytest.raises(ConfigError, match=text):
        settings(tree)
