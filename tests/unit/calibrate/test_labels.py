"""Ground truth from files that people write."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgert.calibrate.compare import labels as labels_module
from edgert.calibrate.compare.labels import labelled, read_box_labels, read_class_labels
from edgert.errors import ConfigError

NAMES = ("cat", "dog", "teddy bear")


@pytest.fixture
def csv_of(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.fixture
def coco_of(tmp_path):
    def write(**changes):
        tree = {
            "info": {"year": 2026},
            "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "area": 1}],
            "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
            **changes,
        }
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(tree))
        return path

    return write


def test_labels_by_name_or_index(csv_of):
    path = csv_of("file,label\na.jpg,dog\nfolder/b.jpg, teddy bear\n\nc.jpg,0\n")
    assert read_class_labels(path, NAMES) == {"a.jpg": 1, "folder/b.jpg": 2, "c.jpg": 0}


def test_a_spreadsheet_writes_a_mark_returns_and_quotes(csv_of):
    path = csv_of('file,label\r\n"a, b.jpg",dog\r\n', "utf-8-sig")
    assert read_class_labels(path, NAMES) == {"a, b.jpg": 1}


def test_a_model_without_labels_has_indices(csv_of):
    assert read_class_labels(csv_of("file,label\na.jpg,281\n"), ()) == {"a.jpg": 281}


def test_a_label_that_is_a_number_is_a_label_first(csv_of):
    assert read_class_labels(csv_of("file,label\na.jpg,7\n"), ("7", "1")) == {"a.jpg": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv:1: the header is '', expected 'file,label'"),
        ("a.jpg,dog\n", r":1: the header is 'a.jpg,dog'"),
        ("file,label\na.jpg\n", r":2: 'a.jpg', expected a file and its label"),
        ("file,label\na.jpg,dog,cat\n", r":2: 'a.jpg,dog,cat', expected a file and its label"),
        ("file,label\na.jpg,\n", r":2: 'a.jpg,', expected a file and its label"),
        ("file,label\na.jpg,dgo\n", r":2: label 'dgo' is no label of the model; did you mean 'dog'\?"),
        ("file,label\na.jpg,3\n", r":2: label '3' is no label of the model; expected one of 3 labels"),
        ("file,label\na.jpg,-1\n", r":2: label '-1' is no label"),
        ("file,label\na.jpg,dog\n\na.jpg,cat\n", r":4: 'a.jpg' has another label further up"),
        ('file,label\n"a.jpg,dog\n', r":2: not valid CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(csv_of, text, message):
    with pytest.raises(ConfigError, match=message):
        read_class_labels(csv_of(text), NAMES)


def test_a_file_that_is_no_text(csv_of):
    with pytest.raises(ConfigError, match=r"labels\.csv:2: not text in UTF-8"):
        read_class_labels(csv_of("file,label\nä.jpg,dog\n", "latin-1"), NAMES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read: No such file"):
        read_class_labels(tmp_path / "none.csv", NAMES)
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        read_box_labels(tmp_path, NAMES)


def test_a_file_without_bound_is_refused(csv_of, monkeypatch):
    monkeypatch.setattr(labels_module, "MAX_LABEL_BYTES", 10)
    with pytest.raises(ConfigError, match="has more than 10 bytes"):
        read_class_labels(csv_of("file,label\n"), NAMES)


def test_boxes_become_corners_and_categories_labels(coco_of):
    truth = read_box_labels(coco_of(), NAMES)["a.jpg"]
    assert truth.boxes_xyxy_px.tolist() == [[10, 20, 40, 60]]
    assert (truth.class_indices.tolist(), truth.is_crowd.tolist()) == ([1], [False])
    assert truth.boxes_xyxy_px.dtype == np.float64


def test_a_crowd_is_marked(coco_of):
    row = {"image_id": 7, "category_id": 18, "bbox": [0, 0, 1.5, 1], "iscrowd": 1}
    assert read_box_labels(coco_of(annotations=[row]), NAMES)["a.jpg"].is_crowd.tolist() == [True]


def test_an_image_without_annotations_has_no_boxes(coco_of):
    truth = read_box_labels(coco_of(annotations=[]), NAMES)["a.jpg"]
    assert truth.boxes_xyxy_px.shape == (0, 4)


def test_a_category_nobody_uses_need_not_be_known(coco_of):
    categories = [{"id": 18, "name": "dog"}, {"id": 19, "name": "horse"}]
    assert list(read_box_labels(coco_of(categories=categories), NAMES)) == ["a.jpg"]


def annotation(**changes):
    return {"annotations": [{"image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (annotation(image_id=8), r"annotations\[0\]\.image_id = 8: no such image"),
        (annotation(category_id=1), r"annotations\[0\]\.category_id = 1: no such category"),
        (annotation(bbox=[1, 2, 3]), r"annotations\[0\]\.bbox: expected `array` of length 4"),
        (annotation(bbox=[1, 2, -3, 4]), r"annotations\[0\]\.bbox\[2\]: expected `float` >= 0"),
        (annotation(bbox=[1, 2, "3", 4]), r"annotations\[0\]\.bbox\[2\]: expected `float`, got `str`"),
        ({"annotations": [{}]}, r"annotations\[0\]: object missing required field `image_id`"),
        (
            {"categories": [{"id": 18, "name": "dogg"}]},
            r"annotations\[0\]: category 'dogg' is no label .* 'dog'",
        ),
        (
            {"categories": [{"id": 18, "name": "dog"}, {"id": 18, "name": "cat"}]},
            r"categories\[1\]\.id = 18 stands",
        ),
        (
            {"images": [{"id": 7, "file_name": "a"}, {"id": 8, "file_name": "a"}]},
            r"images\[1\]\.file_name = 'a' st",
        ),
        (
            {"images": [{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]},
            r"images\[1\]\.id = 7 stands",
        ),
        ({"images": 3}, r"images: expected `array`, got `int`"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(coco_of, changes, message):
    with pytest.raises(ConfigError, match=r"labels\.json: " + message):
        read_box_labels(coco_of(**changes), NAMES)


def test_json_that_is_none(csv_of):
    with pytest.raises(ConfigError, match="the file: object missing required field `images`"):
        read_box_labels(csv_of("{}"), NAMES)
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_box_labels(csv_of("{"), NAMES)


def test_frames_are_found_by_the_end_of_their_path():
    truths = {"1.jpg": 1, "day/1.jpg": 2, "/photos/3.jpg": 3}
    found = labelled(["night/1.jpg", "/x/day/1.jpg", "/photos/3.jpg", "elsewhere/3.jpg", "11.jpg"], truths)
    assert found.truths == {"night/1.jpg": 1, "/x/day/1.jpg": 2, "/photos/3.jpg": 3}
    assert found.unlabelled == 2
