"""No name leads out of the model's folder, and no link out of the store."""

import pytest

from edgert.errors import ModelError
from edgert.models.files import confined, list_folder, read_text


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "store" / "detector"
    (folder / "1").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["", "../..", "../../secret", "/etc/passwd", "a/../../../b", "nul\0byte"])
def test_name_that_leaves_the_model_is_refused(model, name):
    with pytest.raises(ModelError, match=r"field x = .*: expected a file inside .*detector"):
        confined(model / "1", name, model, "field x")


@pytest.mark.parametrize("name", ["model.plan", "sub/model.plan", "./a", "../shared.plan", "a/../b", "..a"])
def test_name_inside_the_model_need_not_exist(model, name):
    assert confined(model / "1", name, model, "field x").is_relative_to(model)


def test_link_inside_the_store_is_followed(model):
    (model.parent / "weights.onnx").write_bytes(b"")
    (model / "1" / "model.onnx").symlink_to(model.parent / "weights.onnx")
    assert confined(model / "1", "model.onnx", model, "x") == model / "1" / "model.onnx"


@pytest.mark.parametrize("name", ["link", "link/model.onnx"])
def test_link_out_of_the_store_is_refused(model, tmp_path, name):
    (model / "1" / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=r"a link leads to .* outside the store"):
        confined(model / "1", name, model, "x")


def test_link_to_itself_is_refused_when_read(model):
    (model / "loop").symlink_to(model / "loop")
    with pytest.raises(ModelError, match="no such file"):
        read_text(confined(model, "loop", model, "x"), 10)


def test_store_may_itself_be_reached_through_a_link(model, tmp_path):
    (tmp_path / "link").symlink_to(model.parent)
    linked = tmp_path / "link" / "detector"
    assert confined(linked, "a", linked, "x") == linked / "a"


def test_text_is_bounded_and_utf8(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_text(path, 5) == "12345"
    with pytest.raises(ModelError, match="has 5 bytes or more, expected at most 4"):
        read_text(path, 4)
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(ModelError, match="a:2: not text in UTF-8"):
        read_text(path, 5)


@pytest.mark.parametrize("name", ["absent", ".", "a" * 300])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ModelError, match="no such file"):
        read_text(tmp_path / name, 10)


def test_folder_that_is_absent_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        list_folder(tmp_path / "absent")
