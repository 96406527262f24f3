"""What measured batches hold."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgert.errors import ConfigError
from edgert.execute.engine import EngineInfo
from edgert.models.tensor_spec import TensorSpec
from edgert.perf.inputs import batch_size, make_batches
from edgert.perf.options import InputFile, PerfOptions
from edgert.perf.target import InputShapes
from edgert.prepare.options import PrepareOptions

IMAGE = TensorSpec("image", "float32", (-1, 3, 8, 8))
EXACT = PrepareOptions(fit="stretch")


def info_of(*inputs, batches=True):
    output = TensorSpec("y", "float32", (inputs[0].shape[0], 4) if inputs[0].shape else (4,))
    return EngineInfo("onnxruntime", inputs, (output,), batches)


def make(*specs, batches=True, narrowed=None, viewed=None, optimum=None, prepare=EXACT, **options):
    return make_batches(
        info_of(*(specs or (IMAGE,)), batches=batches),
        PerfOptions(model="m", **options),
        InputShapes(narrowed or {}, viewed or {}),
        optimum or {},
        prepare,
    )


def given(*files):
    return tuple(InputFile(name, file) for name, file in files)


# Random


def test_random_numbers_are_one_batch_and_depend_on_the_seed():
    [one], [again], [other] = make(batch=2), make(batch=2), make(batch=2, seed=1)
    assert one["image"].shape == (2, 3, 8, 8)
    assert one["image"].dtype == np.float32
    assert 0 <= one["image"].min() < one["image"].max() < 1
    assert np.array_equal(one["image"], again["image"])
    assert not np.array_equal(one["image"], other["image"])
    assert not np.array_equal(one["image"][0], one["image"][1])


@pytest.mark.parametrize(
    ("dtype", "largest"), [("uint8", 255), ("int64", 1), ("int32", 1), ("bool", True), ("int8", 1)]
)
def test_whole_numbers_stay_where_an_index_may_be(dtype, largest):
    [batch] = make(TensorSpec("x", dtype, (-1, 5000)))
    assert batch["x"].dtype == dtype
    assert batch["x"].max() == largest
    assert batch["x"].min() == 0


def test_half_floats_are_random_too():
    [batch] = make(TensorSpec("x", "float16", (-1, 50)))
    assert batch["x"].dtype == np.float16
    assert len(np.unique(batch["x"])) > 30


# Batch and shape


def test_a_batch_is_as_the_engine_takes_it():
    fixed = info_of(TensorSpec("x", "float32", (4, 3)), batches=False)
    without = EngineInfo("r", (TensorSpec("x", "float32", (7,)),), (TensorSpec("y", "float32", (9,)),), False)
    assert (batch_size(info_of(IMAGE), None), batch_size(info_of(IMAGE), 8)) == (1, 8)
    assert (batch_size(fixed, None), batch_size(fixed, 4)) == (4, 4)
    assert batch_size(without, None) == 1
    for info in (fixed, without):
        with pytest.raises(ConfigError, match="--batch 2: this engine runs batches of"):
            batch_size(info, 2)


def test_an_engine_without_a_batch_axis_gets_none():
    info = EngineInfo("r", (TensorSpec("x", "float32", (7,)),), (TensorSpec("y", "float32", (9,)),), False)
    [batch] = make_batches(info, PerfOptions(model="m"), InputShapes({}, {}), {}, EXACT)
    assert batch["x"].shape == (7,)


def test_open_sides_come_from_the_command_then_the_configuration_then_the_profile():
    spec = TensorSpec("image", "float32", (-1, 3, -1, -1))
    sources = {"narrowed": {"image": (-1, 3, 20, -1)}, "optimum": {"image": (4, 3, 30, 30)}}
    assert make(spec, shapes={"image": (3, 5, 6)}, **sources)[0]["image"].shape == (1, 3, 5, 6)
    assert make(spec, **sources)[0]["image"].shape == (1, 3, 20, 30)
    assert make(spec, optimum=sources["optimum"])[0]["image"].shape == (1, 3, 30, 30)
    with pytest.raises(ConfigError, match=r"image is 3x\?x\?.*Give --shape image="):
        make(spec)


def test_names_and_shapes_that_the_engine_does_not_have(tmp_path):
    with pytest.raises(ConfigError, match="--input other: the engine's inputs are image"):
        make(inputs=given(("other", tmp_path)))
    with pytest.raises(ConfigError, match="--shape other: "):
        make(shapes={"other": (3,)})
    with pytest.raises(ConfigError, match=r"--shape image: found \[3, 9, 8\], the engine has \[3, 8, 8\]"):
        make(shapes={"image": (3, 9, 8)})


# Arrays


def save(file, array):
    np.save(file, array)
    return file


def test_items_of_an_array_go_round(tmp_path):
    items = np.arange(5 * 4, dtype=np.float32).reshape(5, 4)
    file = save(tmp_path / "x.npy", items)
    batches = make(TensorSpec("x", "float32", (-1, 4)), inputs=given(("x", file)), batch=2)
    assert [batch["x"][:, 0].tolist() for batch in batches] == [[0, 4], [8, 12], [16, 0]]


def test_one_item_fills_a_batch(tmp_path):
    file = save(tmp_path / "x.npy", np.float32([1, 2]))
    [batch] = make(TensorSpec("x", "float32", (-1, 2)), inputs=given(("x", file)), batch=3)
    assert batch["x"].tolist() == [[1, 2]] * 3


def test_an_archive_has_an_array_for_each_input(tmp_path):
    file = tmp_path / "both.npz"
    np.savez(file, x=np.float32([[1], [2], [3]]), n=np.int64([[7]]))
    specs = TensorSpec("x", "float32", (-1, 1)), TensorSpec("n", "int64", (-1, 1))
    batches = make(*specs, inputs=given(("x", file), ("n", file)))
    assert [(batch["x"].item(), batch["n"].item()) for batch in batches] == [(1, 7), (2, 7), (3, 7)]


def test_a_single_array_of_an_archive_needs_no_name(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.float32([3]))
    [batch] = make(TensorSpec("x", "float32", (-1, 1)), inputs=given(("x", tmp_path / "a.npz")))
    assert batch["x"].item() == 3


def test_files_and_random_numbers_go_together(tmp_path):
    file = save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    specs = TensorSpec("x", "float32", (-1, 2)), TensorSpec("r", "float32", (-1, 6))
    batches = make(*specs, inputs=given(("x", file)))
    assert [batch["r"].shape for batch in batches] == [(1, 6)] * 3


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(4, np.float64), "float64"),
        (np.zeros(5, np.float32), r"float32 \[5\]"),
        (np.zeros((2, 2, 4), np.float32), r"\[2, 2, 4\]"),
    ],
)
def test_an_array_that_does_not_fit(array, found, tmp_path):
    file = save(tmp_path / "x.npy", array)
    with pytest.raises(ConfigError, match=f"x.npy: holds .*{found}.*input x takes float32"):
        make(TensorSpec("x", "float32", (-1, 4)), inputs=given(("x", file)))


def test_a_file_that_is_no_array(tmp_path):
    (tmp_path / "a.npy").write_text("no array")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 no archive")
    np.save(tmp_path / "c.npy", np.array([{}], object), allow_pickle=True)
    for name in ("a.npy", "b.npz", "c.npy", "absent.npy"):
        with pytest.raises(ConfigError, match=f"{name}: cannot be read as an array"):
            make(TensorSpec("x", "float32", (-1, 4)), inputs=given(("x", tmp_path / name)))


def test_an_archive_without_the_array(tmp_path):
    np.savez(tmp_path / "a.npz", p=np.zeros(4), q=np.zeros(4))
    with pytest.raises(ConfigError, match="has no array 'x'; it has p, q"):
        make(TensorSpec("x", "float32", (-1, 4)), inputs=given(("x", tmp_path / "a.npz")))


# Pictures


def picture(file, value=50, side=8):
    cv2.imwrite(str(file), np.full((side, side, 3), value, np.uint8))
    return file


def test_a_picture_is_prepared_as_the_service_prepares_it(tmp_path):
    prepare = PrepareOptions(fit="stretch", mean=10.0, scale=0.5)
    file = picture(tmp_path / "a.png", 50, side=30)
    [batch] = make(inputs=given(("image", file)), prepare=prepare)
    assert batch["image"].shape == (1, 3, 8, 8)
    assert np.unique(batch["image"]) == [20.0]


def test_every_file_of_a_folder_is_used_in_order(tmp_path):
    for index, value in enumerate((10, 20, 30)):
        picture(tmp_path / f"{index}.png", value)
    (tmp_path / ".hidden").write_text("not this one")
    batches = make(inputs=given(("image", tmp_path)))
    assert [batch["image"].mean() for batch in batches] == [10, 20, 30]


def test_a_jpeg_counts_as_a_picture(tmp_path):
    [batch] = make(inputs=given(("image", picture(tmp_path / "a.jpg", 128))))
    assert batch["image"].mean() == pytest.approx(128, abs=2)


def test_a_picture_for_a_tensor_that_the_engine_has_in_another_shape(tmp_path):
    row = TensorSpec("row", "float32", (-1, 192))
    file = picture(tmp_path / "a.png", 9)
    [batch] = make(row, inputs=given(("row", file)), viewed={"row": (3, 8, 8)})
    assert batch["row"].shape == (1, 192)
    assert np.unique(batch["row"]) == [9]


def test_pictures_of_several_sizes_do_not_share_a_tensor_that_keeps_their_size(tmp_path):
    spec = TensorSpec("image", "float32", (-1, 3, -1, -1))
    picture(tmp_path / "a.png", side=8), picture(tmp_path / "b.png", side=9)
    with pytest.raises(ConfigError, match=r"b\.png: is \[3, 9, 9\] for image, others are \(3, 8, 8\)"):
        make(spec, inputs=given(("image", tmp_path)), prepare=PrepareOptions(fit="none"))


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("a.txt", "is no .npy or .npz, .* neither JPEG nor PNG"),
        ("b.png", "cannot be used as a picture"),
        ("c.png", "cannot be used as a picture"),
        ("empty", "the folder has no files"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(inputs=given(("image", tmp_path / name)))
