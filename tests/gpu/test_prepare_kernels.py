"""The preparation kernel on a device, held to the same tolerances as on the host."""

from itertools import product

import pytest

from edgert.device.memory import MemoryKind
from edgert.frames.frame import RAW_FORMATS
from edgert.prepare.kernels import KernelPreparer, load_kernel_image
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import DTYPES
from tests.unit.prepare.kernel_cases import Case, even

pytestmark = pytest.mark.gpu

MEMORY_BYTES = 16 << 20
LAUNCHES = 200


class Rig:
    """A picture's and an item's memory, in which any case can be run."""

    def __init__(self, driver, kind):
        self.driver, self.stream = driver, driver.open_stream()
        self._is_copied = kind is MemoryKind.DEVICE
        host = MemoryKind.PINNED if self._is_copied else kind
        self.host_picture, self.host_item = (driver.allocate(MEMORY_BYTES, host, "test") for _ in range(2))
        self.picture, self.item = (
            [driver.allocate(MEMORY_BYTES, kind, "test") for _ in range(2)]
            if self._is_copied
            else [self.host_picture, self.host_item]
        )
        facts = driver.attributes()
        compute = tuple(map(int, facts["compute_capability"].split(".")))
        self.image = load_kernel_image(facts["cuda_version"], compute)

    def preparer(self, case):
        return KernelPreparer(case.options, case.item_shape, case.dtype, self.driver, self.image)

    def put(self, picture, offset=0):
        self.host_picture.array_u8[offset : offset + picture.nbytes] = picture.ravel()
        if self._is_copied:
            self.stream.copy(self.picture.address, self.host_picture.address, offset + picture.nbytes)

    def run(self, case, offset=0):
        """Return the item, on memory prefilled with garbage, and the placement."""
        expected, _ = case.reference(case.picture())
        self.host_item.array_u8[: expected.nbytes] = 0x5A
        if self._is_copied:
            self.stream.copy(self.item.address, self.host_item.address, expected.nbytes)
        self.put(case.picture(), offset)
        placement = self.preparer(case).place(
            self.picture.address + offset, case.pixel_format, *case.source, self.item.address, self.stream
        )
        if self._is_copied:
            self.stream.copy(self.host_item.address, self.item.address, expected.nbytes)
        self.stream.synchronize()
        item = self.host_item.array_u8[: expected.nbytes].copy().view(case.dtype)
        return item.reshape(expected.shape), placement

    def compare(self, case, offset=0):
        item, placement = self.run(case, offset)
        expected, expected_placement = case.reference(case.picture())
        assert placement == expected_placement
        case.check(expected, item, placement)

    def close(self):
        self.stream.close()
        for buffer in {
            id(b): b for b in (self.picture, self.item, self.host_picture, self.host_item)
        }.values():
            buffer.free()


@pytest.fixture(params=[MemoryKind.MAPPED, MemoryKind.DEVICE], ids=lambda kind: kind.value)
def rig(request, device):
    with device.driver.current():
        made = Rig(device.driver, request.param)
        yield made
        made.close()


@pytest.mark.parametrize("pixel_format", RAW_FORMATS)
@pytest.mark.parametrize("interpolation", ["linear", "area", "nearest"])
def test_every_format_fit_layout_and_type_comes_as_near_as_promised(pixel_format, interpolation, rig):
    source = even(37, pixel_format), even(83, pixel_format)
    fits, layouts, colours = (
        ("letterbox", "stretch", "crop", "none"),
        ("nchw", "nhwc"),
        ("rgb", "bgr", "gray"),
    )
    for fit, layout, dtype, colour in product(fits, layouts, DTYPES, colours):
        options = PrepareOptions(
            fit=fit, layout=layout, interpolation=interpolation, colour=colour, mean=100.5, scale=0.75
        )
        for tensor in [source] if fit == "none" else [(19, 21), (61, 131)]:
            rig.compare(Case(options, pixel_format, source, tensor, dtype))


@pytest.mark.parametrize("interpolation", ["linear", "area", "nearest"])
@pytest.mark.parametrize(
    ("pixel_format", "source", "tensor"),
    [
        ("bgr8", (1080, 1920), (300, 300)),
        ("nv12", (1080, 1920), (640, 640)),
        ("nv12", (8, 9000), (5, 3)),
        ("bgr8", (7, 9001), (5, 4)),
        ("gray8", (3, 2), (400, 333)),
    ],
)
def test_great_steps_and_wide_rows(pixel_format, source, tensor, interpolation, rig):
    rig.compare(Case(PrepareOptions(interpolation=interpolation), pixel_format, source, tensor))


@pytest.mark.parametrize("pixel_format", RAW_FORMATS)
def test_a_picture_may_begin_at_any_address(pixel_format, rig):
    for offset in range(17):
        rig.compare(Case(PrepareOptions(fit="crop", keep=0.7), pixel_format, (10, 16), (9, 7)), offset)


@pytest.mark.parametrize("pixel_format", ["bgr8", "nv12"])
@pytest.mark.parametrize("interpolation", ["linear", "area"])
def test_a_full_hd_frame_takes_microseconds(pixel_format, interpolation, rig, record_property):
    """Many launches in one graph, so that the launching thread is not what is measured."""
    options = PrepareOptions(interpolation=interpolation, scale=1 / 255)
    case = Case(options, pixel_format, (1080, 1920), (300, 300), "float32")
    preparer, picture = rig.preparer(case), case.picture()
    rig.put(picture)
    rig.stream.begin_capture()
    for _ in range(LAUNCHES):
        preparer.place(rig.picture.address, pixel_format, 1080, 1920, rig.item.address, rig.stream)
    graph = rig.stream.end_capture()
    start, end = (rig.driver.open_event(is_timed=True) for _ in range(2))
    rig.stream.launch(graph)
    rig.stream.record(start)
    rig.stream.launch(graph)
    rig.stream.record(end)
    end.synchronize()
    took_us = end.elapsed_ms(start) * 1e3 / LAUNCHES
    for part in (graph, start, end):
        part.close()
    record_property("took_us", took_us)
    memory = rig.picture.kind.value
    print(f"{pixel_format} 1080p to 300x300 float32, {interpolation}, {memory}: {took_us:.1f} us")
    assert took_us < 1000
