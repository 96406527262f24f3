import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import DeviceError, FrameError, ModelError
from edgert.frames.frame import RAW_FORMATS
from edgert.prepare.kernels import KEPT_PLANS, KernelParameters, KernelPreparer
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import DTYPES
from tests.fakes.kernel_stream import ADDRESS, KernelDriver, host_image
from tests.requirements_of import need_program
from tests.unit.prepare.kernel_cases import Case, even

KINDS = ("linear", "area", "nearest")


@pytest.fixture(scope="module")
def image() -> bytes:
    return host_image(need_program("g++", "g++"))


@pytest.fixture
def stream():
    opened = KernelDriver().open_stream()
    yield opened
    opened.close()


def preparer_of(case: Case, image: bytes) -> KernelPreparer:
    return KernelPreparer(case.options, case.item_shape, case.dtype, KernelDriver(), image)


def run(case: Case, picture: np.ndarray, image: bytes):
    """Return the item that the kernel makes, prefilled with garbage, and the placement."""
    preparer, stream = preparer_of(case, image), KernelDriver().open_stream()
    item = np.full(preparer.shape_for(case.pixel_format, *case.source), 99, case.dtype)
    addresses = picture.ctypes.data, item.ctypes.data
    placement = preparer.place(addresses[0], case.pixel_format, *case.source, addresses[1], stream)
    stream.close()
    return item, placement


def compare(case: Case, image: bytes) -> None:
    picture = case.picture()
    expected, expected_placement = case.reference(picture)
    item, placement = run(case, picture, image)
    assert placement == expected_placement
    case.check(expected, item, placement)


@pytest.mark.parametrize("pixel_format", RAW_FORMATS)
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop", "none"])
@pytest.mark.parametrize("interpolation", KINDS)
def test_every_format_fit_layout_and_type_comes_as_near_as_promised(pixel_format, fit, interpolation, image):
    height, width = even(37, pixel_format), even(83, pixel_format)
    for layout, dtype, colour in product(("nchw", "nhwc"), DTYPES, ("rgb", "bgr", "gray")):
        options = PrepareOptions(
            fit=fit, layout=layout, interpolation=interpolation, colour=colour, mean=100.5, scale=0.75
        )
        for tensor in [(height, width)] if fit == "none" else [(19, 21), (49, 45), (61, 131)]:
            compare(Case(options, pixel_format, (height, width), tensor, dtype), image)


sides = st.one_of(st.integers(1, 24), st.integers(1, 200))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    pixel_format = draw(st.sampled_from(RAW_FORMATS))
    options = PrepareOptions(
        fit=draw(st.sampled_from(["letterbox", "stretch", "crop"])),
        keep=draw(st.sampled_from([1.0, 0.875, 0.3])),
        anchor=draw(st.sampled_from(["centre", "top_left"])),
        pad=draw(st.integers(0, 255)),
        colour=draw(st.sampled_from(["rgb", "bgr", "gray"])),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        interpolation=draw(st.sampled_from(KINDS)),
    )
    source = even(draw(sides), pixel_format), even(draw(sides), pixel_format)
    return Case(options, pixel_format, source, (draw(sides), draw(sides)))


@settings(deadline=None, max_examples=300)
@given(case=cases())
def test_any_size_comes_as_near_as_promised(case, image):
    compare(case, image)


@pytest.mark.parametrize("interpolation", KINDS)
@pytest.mark.parametrize(
    ("pixel_format", "source", "tensor"),
    [
        ("bgr8", (1080, 1920), (300, 300)),
        ("nv12", (1080, 1920), (199, 320)),
        ("nv12", (8, 9000), (5, 3)),  # rows that are wider than what a warp stages, several times
        ("bgr8", (7, 9001), (5, 4)),
        ("gray8", (9001, 7), (3, 5)),
        ("rgb8", (9, 300), (1, 1)),
        ("gray8", (3, 2), (400, 333)),
    ],
)
def test_great_steps_and_wide_rows(pixel_format, source, tensor, interpolation, image):
    compare(
        Case(PrepareOptions(fit="stretch", interpolation=interpolation), pixel_format, source, tensor), image
    )


def test_averages_differ_in_a_few_of_ten_thousand_values(image):
    case = Case(PrepareOptions(fit="stretch", interpolation="area"), "bgr8", (1080, 1920), (300, 300))
    picture = case.picture()
    assert (run(case, picture, image)[0] != case.reference(picture)[0]).mean() < 1e-3


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (3, 2), (1, 2), (2, 1), (3, 3)])
def test_averages_of_whole_pixels_round_as_opencv_does(size, image):
    options = PrepareOptions(fit="stretch", interpolation="area")
    case = Case(options, "rgb8", (32 * size[0], 64 * size[1]), (32, 64))
    picture = case.picture()
    np.testing.assert_array_equal(run(case, picture, image)[0], case.reference(picture)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.0078431, 1e-7, (1e-6, 3.0, 200.0)])
def test_every_level_becomes_the_same_value(dtype, scale, image):
    """Among them halves that are too small to be normal, ties, and what leaves a whole-number type."""
    options = PrepareOptions(fit="none", mean=(0.0, 127.5, 254.998), scale=scale)
    case = Case(options, "rgb8", (16, 48), (16, 48), dtype)
    picture = np.repeat(np.arange(256, dtype=np.uint8), 9).reshape(16, 48, 3)
    item, _ = run(case, picture, image)
    assert item.tobytes() == case.reference(picture)[0].tobytes()


@pytest.mark.parametrize("pixel_format", RAW_FORMATS)
def test_a_picture_may_begin_at_any_address(pixel_format, image):
    """Rows are copied in 16 bytes: each way that these fall on a row's ends."""
    memory = np.empty(10_000, np.uint8)
    for start, width in product(range(17), (2, 14, 16, 30)):  # the part begins at odd and even columns
        options = PrepareOptions(fit="crop", keep=0.7)
        case = Case(options, pixel_format, (10, width), (9, 7))
        picture = case.picture()
        there = memory[start : start + picture.nbytes].reshape(picture.shape)
        there[...] = picture
        case.check(case.reference(picture)[0], *run(case, there, image))


def test_nothing_beside_picture_place_and_staging_is_touched(tmp_path):
    compiler = need_program("g++", "g++")
    libasan = subprocess.check_output([compiler, "-print-file-name=libasan.so"], text=True).strip()
    (tmp_path / "kernels.so").write_bytes(host_image(compiler, ADDRESS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.prepare.kernel_bounds", tmp_path / "kernels.so"],
        env={"LD_PRELOAD": libasan, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_place_is_written_and_its_neighbours_are_not(dtype, image, stream):
    batch = np.full((3, 3, 9, 35), 9, dtype)
    preparer = KernelPreparer(PrepareOptions(), (3, 9, 35), dtype, KernelDriver(), image)
    picture = np.full((6, 4, 3), 200, np.uint8)
    preparer.place(picture.ctypes.data, "bgr8", 6, 4, batch[1].ctypes.data, stream)
    assert (batch[[0, 2]] == 9).all()
    assert (batch[1] != 9).all()


def test_a_frame_is_one_launch_whose_grid_covers_the_tensor(image, stream):
    case = Case(PrepareOptions(), "bgr8", (40, 60), (17, 65))
    preparer, picture, item = preparer_of(case, image), case.picture(), np.empty(case.item_shape, np.uint8)
    for _ in range(3):
        preparer.place(picture.ctypes.data, "bgr8", 40, 60, item.ctypes.data, stream)
    assert stream.launches == [((3, 3, 1), (32, 8, 1))] * 3


def test_a_geometry_seen_before_is_not_worked_out_again(image, stream):
    case = Case(PrepareOptions(), "bgr8", (40, 60), (16, 16))
    preparer, picture = preparer_of(case, image), case.picture()
    items = np.zeros((2, *case.item_shape), np.uint8)
    seen = []
    stream.launch_kernel = lambda kernel, grid, block, parameters: seen.append(
        (id(parameters), bytes(KernelParameters.from_buffer_copy(parameters))[16:], parameters.item)
    )
    for item in items:
        preparer.place(picture.ctypes.data, "bgr8", 40, 60, item.ctypes.data, stream)
    assert seen[0][:2] == seen[1][:2]
    assert [item for *_, item in seen] == [item.ctypes.data for item in items]


def test_sources_of_many_sizes_take_turns_in_bounded_memory(image, stream):
    case = Case(PrepareOptions(), "gray8", (40, 60), (16, 16))
    preparer, picture, item = preparer_of(case, image), case.picture(), np.empty(case.item_shape, np.uint8)
    for width in [*range(1, KEPT_PLANS + 10), 60]:
        preparer.place(picture.ctypes.data, "gray8", 40, width, item.ctypes.data, stream)
    case.check(case.reference(picture)[0], item, case.reference(picture)[1])
    assert len(preparer._plans) == KEPT_PLANS


def test_frames_of_their_own_size(image):
    for size in ((4, 5), (31, 70)):
        options = PrepareOptions(fit="none", layout="nhwc")
        preparer = KernelPreparer(options, (-1, -1, 3), "uint8", KernelDriver(), image)
        assert preparer.shape_for("bgr8", *size) == (*size, 3)
        compare(Case(options, "bgr8", size, size), image)


@pytest.mark.parametrize(
    ("pixel_format", "size", "text"),
    [
        ("nv12", (5, 4), "even sides"),
        ("rgb8", (0, 4), "not positive"),
        ("jpeg", (4, 4), "Unknown pixel format"),
        ("gray8", (1, 1 << 27), "134217728x1 is too large for a tensor 8x8"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_and_nothing_launched(pixel_format, size, text, image, stream):
    preparer = KernelPreparer(PrepareOptions(), (3, 8, 8), "float32", KernelDriver(), image)
    with pytest.raises(FrameError, match=text):
        preparer.place(0, pixel_format, *size, 0, stream)
    assert stream.launches == []


def test_a_frame_of_another_size_than_the_tensor_is_refused_when_it_must_fit(image, stream):
    preparer = KernelPreparer(PrepareOptions(fit="none"), (3, 4, 5), "float32", KernelDriver(), image)
    assert preparer.shape_for("bgr8", 4, 6) == (3, 4, 6)
    with pytest.raises(FrameError, match="is 6x4; the model takes 5x4"):
        preparer.place(0, "bgr8", 4, 6, 0, stream)


def test_options_that_do_not_fit_the_tensor_are_refused(image):
    with pytest.raises(ModelError, match="colour 'rgb' has 3 channels"):
        KernelPreparer(PrepareOptions(), (1, 8, 8), "float32", KernelDriver(), image)
    with pytest.raises(ModelError, match="int32; a picture can be"):
        KernelPreparer(PrepareOptions(), (3, 8, 8), "int32", KernelDriver(), image)


def test_an_image_without_the_kernel_is_refused(image):
    for other in (b"not an image", image.replace(b"prepare_frame_on_host", b"prepare_fruit_on_host")):
        with pytest.raises(DeviceError, match="no kernel prepare_frame"):
            KernelPreparer(PrepareOptions(), (3, 8, 8), "float32", KernelDriver(), other)
