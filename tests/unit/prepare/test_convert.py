import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import FrameError, ModelError
from edgert.frames.frame import RAW_FORMATS, image_shape
from edgert.frames.placement import crop_part
from edgert.prepare.convert import KEPT_PLANS, Preparer, set_threads
from edgert.prepare.geometry import CHANNELS
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import DTYPES
from tests.unit.prepare import prepare_reference as reference

RAW = np.random.default_rng(7).integers(0, 256, 3 * 64 * 64, np.uint8)


def picture(pixel_format: str, height: int, width: int) -> np.ndarray:
    shape = image_shape(pixel_format, height, width)
    return RAW[: int(np.prod(shape))].reshape(shape).copy()


def item_shape(options: PrepareOptions, height: int, width: int) -> tuple[int, ...]:
    channels = CHANNELS[options.colour]
    return (channels, height, width) if options.layout == "nchw" else (height, width, channels)


def prepare(options, image, pixel_format, shape, dtype="float32"):
    """Return the tensor, prefilled with garbage, and the placement."""
    out = np.full(shape, 77, dtype)
    placement = Preparer(options, shape, dtype).place(image, pixel_format, out)
    return out, placement


def even(side: int, pixel_format: str) -> int:
    return side + side % 2 if pixel_format == "nv12" else side


sides = st.integers(1, 24)


@st.composite
def cases(draw: st.DrawFn):
    pixel_format = draw(st.sampled_from(RAW_FORMATS))
    options = PrepareOptions(
        fit=draw(st.sampled_from(["letterbox", "stretch", "crop"])),
        keep=draw(st.sampled_from([1.0, 0.875, 0.3])),
        anchor=draw(st.sampled_from(["centre", "top_left"])),
        pad=draw(st.integers(0, 255)),
        colour=draw(st.sampled_from(["rgb", "bgr", "gray"])),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        interpolation=draw(st.sampled_from(["linear", "area"])),
    )
    source = even(draw(sides), pixel_format), even(draw(sides), pixel_format)
    return pixel_format, options, source, (draw(sides), draw(sides))


@settings(deadline=None, max_examples=150)
@given(cases())
def test_agrees_with_the_plain_reference_within_rounding(case):
    pixel_format, options, (width, height), (tensor_width, tensor_height) = case
    image = picture(pixel_format, height, width)
    shape = item_shape(options, tensor_height, tensor_width)
    out, placement = prepare(options, image, pixel_format, shape)
    part = (0, 0, width, height)
    if options.fit == "crop":
        x, y, *size = crop_part((width, height), (tensor_width, tensor_height), options.keep)
        part = (x, y, x + size[0], y + size[1])
    expected = reference.levels(image, pixel_format, options, placement, part)
    # one level for rounding the resized pixel, and one or two for OpenCV's whole-number colour conversions
    tolerance = {"nv12": 2.6, "gray8": 1.01}.get(pixel_format, 2.01 if options.colour == "gray" else 1.01)
    np.testing.assert_allclose(out, reference.values(expected, options, "float32"), rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(1, 1), (1, 24), (24, 1), (5, 7), (24, 24)])
@pytest.mark.parametrize("pixel_format", ["bgr8", "rgb8", "gray8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_values_are_exact_without_resizing(size, pixel_format, layout, dtype, per_channel):
    mean, scale = ((100.5, 127.5, 3.0), (1 / 127.5, 0.5, 1.25)) if per_channel else (127.5, 1 / 127.5)
    options = PrepareOptions(fit="none", layout=layout, mean=mean, scale=scale)
    image = picture(pixel_format, *size)
    out, _ = prepare(options, image, pixel_format, item_shape(options, *size), dtype)
    pixels = reference.recolour(image, pixel_format, "rgb")
    np.testing.assert_array_equal(out, reference.values(pixels, options, dtype))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("colour", ["rgb", "gray"])
def test_padding_goes_through_mean_and_scale(layout, dtype, colour):
    per_channel = ((1.0, 2.0, 3.0), (1.0, 0.5, 0.25)) if colour == "rgb" else (1.0, 0.5)
    options = PrepareOptions(layout=layout, mean=per_channel[0], scale=per_channel[1], pad=30, colour=colour)
    image = np.full((4, 8, 3), 30, np.uint8)  # the picture is what the padding is
    out, _ = prepare(options, image, "bgr8", item_shape(options, 16, 9), dtype)
    level = np.full((16, 9, CHANNELS[colour]), 30.0)
    np.testing.assert_array_equal(out, reference.values(level, options, dtype))


@pytest.mark.parametrize(("source", "tensor"), [((5, 7), (10, 12)), ((60, 40), (20, 10)), ((1, 1), (6, 5))])
def test_nearest_takes_the_pixel_under_the_centre(source, tensor):
    image = picture("gray8", *source)
    options = PrepareOptions(fit="stretch", interpolation="nearest", colour="gray")
    out, _ = prepare(options, image, "gray8", (1, *tensor), "uint8")
    rows = (np.arange(tensor[0]) + 0.5) * source[0] / tensor[0]
    columns = (np.arange(tensor[1]) + 0.5) * source[1] / tensor[1]
    # a centre on the border of two source pixels may fall to either
    allowed = [
        image[np.ix_((rows - e).astype(int), (columns - f).astype(int))] for e in (0, 1e-3) for f in (0, 1e-3)
    ]
    assert np.logical_or.reduce([out[0] == pixels for pixels in allowed]).all()


def test_what_is_found_in_the_tensor_leads_back_to_the_frame():
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:80, 150:210] = 255
    for options in (
        PrepareOptions(pad=0),
        PrepareOptions(pad=0, anchor="top_left"),
        PrepareOptions(fit="stretch"),
        PrepareOptions(fit="crop", keep=0.9),
    ):
        out, placement = prepare(options, image, "bgr8", (3, 96, 160), "uint8")
        rows, columns = np.nonzero(out[0] > 127)
        found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
        tensor_pixel = 1 / min(placement.scale_x, placement.scale_y)
        np.testing.assert_allclose(placement.to_source(found), [[150, 40, 210, 80]], atol=tensor_pixel)


def test_a_batch_place_is_written_and_its_neighbours_are_not():
    batch = np.full((3, 3, 8, 8), 9, np.float32)
    Preparer(PrepareOptions(), (3, 8, 8), "float32").place(picture("bgr8", 6, 4), "bgr8", batch[1])
    assert (batch[[0, 2]] == 9).all()
    assert (batch[1] != 9).any()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixel_format", RAW_FORMATS)
def test_opencv_writes_into_the_memory_it_is_given(layout, dtype, pixel_format):
    """Else a step would allocate for every frame, and the last one would write nowhere."""
    options = PrepareOptions(layout=layout)
    preparer = Preparer(options, item_shape(options, 9, 11), dtype)
    image, out = picture(pixel_format, 6, 8), np.empty(item_shape(options, 9, 11), dtype)
    preparer.place(image, pixel_format, out)
    (plan,) = preparer._plans.values()
    pixels, areas = image, list(preparer._scratch._areas.values())
    for step in plan._steps:
        pixels = step(pixels)
        assert any(np.shares_memory(pixels, area) for area in [image, *areas])


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("mean", [127.5, (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_nothing_is_allocated_for_a_frame_but_views(layout, mean, dtype):
    options = PrepareOptions(mean=mean, scale=1 / 128, layout=layout)
    preparer = Preparer(options, item_shape(options, 300, 300), dtype)
    image, out = np.zeros((64, 48, 3), np.uint8), np.zeros(item_shape(options, 300, 300), dtype)
    preparer.place(image, "bgr8", out)
    tracemalloc.start()
    for _ in range(5):
        preparer.place(image, "bgr8", out)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 50_000  # pixels are 200,000 bytes, the tensor four times that


def test_sources_of_many_sizes_take_turns_in_bounded_memory():
    preparer = Preparer(PrepareOptions(), (3, 16, 16), "uint8")
    out, first = np.empty((3, 16, 16), np.uint8), np.empty((3, 16, 16), np.uint8)
    preparer.place(picture("bgr8", 7, 5), "bgr8", first)
    for width in [*range(1, KEPT_PLANS + 10), 5]:
        preparer.place(picture("bgr8", 7, width), "bgr8", out)
    np.testing.assert_array_equal(out, first)
    assert len(preparer._plans) <= KEPT_PLANS
    assert preparer._scratch.size_bytes <= 2 * 16 * 16 * 3


def test_memory_that_grew_for_a_larger_frame_serves_the_smaller_ones_too():
    preparer = Preparer(PrepareOptions(fit="none"), (3, -1, -1), "float32")
    small, large = picture("bgr8", 4, 4), picture("bgr8", 30, 30)
    for image in (small, large, small):
        out = np.empty(preparer.shape_for("bgr8", *image.shape[:2]), np.float32)
        preparer.place(image, "bgr8", out)
        np.testing.assert_array_equal(out, image[:, :, ::-1].transpose(2, 0, 1))


def test_shape_for():
    assert Preparer(PrepareOptions(), (3, 4, 5), "uint8").shape_for("nv12", 480, 640) == (3, 4, 5)
    assert Preparer(PrepareOptions(fit="none"), (3, -1, -1), "uint8").shape_for("nv12", 480, 640) == (
        3,
        480,
        640,
    )
    packed = PrepareOptions(size=(8, 6), layout="nhwc", colour="gray")
    assert Preparer(packed, (-1, -1, -1), "uint8").shape_for("bgr8", 480, 640) == (6, 8, 1)


def test_a_frame_of_another_size_than_the_tensor_is_refused_when_it_must_fit():
    preparer = Preparer(PrepareOptions(fit="none"), (3, 4, 5), "uint8")
    assert preparer.shape_for("bgr8", 4, 6) == (3, 4, 6)
    with pytest.raises(FrameError, match="is 6x4; the model takes 5x4"):
        preparer.place(picture("bgr8", 4, 6), "bgr8", np.empty((3, 4, 6), np.uint8))


@pytest.mark.parametrize(
    ("pixel_format", "shape", "text"),
    [
        ("bgr8", (4, 4), r"shape \(4, 4\); expected \(4, 4, 3\)"),
        ("bgr8", (4, 4, 4), r"expected \(4, 4, 3\)"),
        ("gray8", (4, 4, 3), r"expected \(4, 4\)"),
        ("bgr8", (12,), "cannot have the shape"),
        ("nv12", (7, 4), r"expected \(6, 4\)"),
        ("nv12", (6, 5), "even sides"),
        ("rgb8", (0, 4, 3), "not positive"),
        ("jpeg", (4, 4, 3), "Unknown pixel format"),
    ],
)
def test_a_picture_that_is_not_of_its_format_is_refused(pixel_format, shape, text):
    preparer = Preparer(PrepareOptions(), (3, 8, 8), "float32")
    with pytest.raises(FrameError, match=text):
        preparer.place(np.zeros(shape, np.uint8), pixel_format, np.empty((3, 8, 8), np.float32))


def test_pixels_that_are_not_bytes_are_refused():
    preparer = Preparer(PrepareOptions(), (3, 8, 8), "float32")
    with pytest.raises(FrameError, match="float32; expected uint8"):
        preparer.place(np.zeros((4, 4, 3), np.float32), "bgr8", np.empty((3, 8, 8), np.float32))


@pytest.mark.parametrize(
    "place",
    [
        np.empty((3, 8, 9), np.float32),
        np.empty((3, 8, 8), np.float64),
        np.empty((8, 8, 3), np.float32).transpose(2, 0, 1),
    ],
)
def test_a_place_that_opencv_could_not_write_into_is_refused(place):
    with pytest.raises(ModelError, match="A frame's place is"):
        Preparer(PrepareOptions(), (3, 8, 8), "float32").place(picture("bgr8", 4, 4), "bgr8", place)


def test_thread_count_reaches_opencv():
    import cv2

    before = cv2.getNumThreads()
    set_threads(1)
    assert cv2.getNumThreads() == 1
    set_threads(before)
