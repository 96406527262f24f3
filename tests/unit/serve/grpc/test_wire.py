"""Raw contents are cut out of a message as a parser would take them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from edgert.errors import RequestError
from edgert.serve.grpc import wire
from edgert.serve.grpc.messages import INFERENCE_MESSAGES


def both(data):
    """Return a request as it is read when it is cut, and as a parser reads it."""
    head, raws = wire.read_request(wire._cut(data))
    whole, copies = wire.read_request(wire.Cut(data, None))
    copies = list(copies)
    del whole.raw_input_contents[:]
    return (head, [bytes(raw) for raw in raws]), (whole, copies)


@given(st.lists(st.binary(max_size=300), max_size=5), st.text(max_size=20), st.integers(0, 3))
def test_cut_messages_say_the_same(raws, name, copies):
    request = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=raws)
    for index in range(copies):
        request.inputs.add(name=f"{name}{index}", shape=[1, index])
    data = request.SerializeToString()
    cut, parsed = both(data)
    assert cut == parsed
    assert cut[1] == raws


def test_raw_contents_between_other_fields_are_found():
    parts = [
        service_pb2.ModelInferRequest(raw_input_contents=[b"a" * 200]),
        service_pb2.ModelInferRequest(model_name="m"),
        service_pb2.ModelInferRequest(raw_input_contents=[b"", b"b"]),
        service_pb2.ModelInferRequest(id="x"),
    ]
    cut, parsed = both(b"".join(part.SerializeToString() for part in parts))
    assert cut == parsed
    assert (cut[0].model_name, cut[0].id, cut[1]) == ("m", "x", [b"a" * 200, b"", b"b"])


def test_views_hold_no_copy():
    data = service_pb2.ModelInferRequest(raw_input_contents=[b"x" * 5000]).SerializeToString()
    (view,) = wire.cut(data).raws
    assert view.obj is data


@given(st.binary(max_size=80), st.integers(0, 200), st.booleans())
def test_garbage_is_read_as_a_parser_reads_it_or_refused(noise, at, is_in_message):
    whole = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"x" * 150]).SerializeToString()
    data = whole[:at] + noise + whole[at + len(noise) :] if is_in_message else noise
    outcomes = []
    for pieces in (wire._cut(data), wire.Cut(data, None)):
        try:
            request, raws = wire.read_request(pieces)
        except RequestError:
            outcomes.append(None)
        else:
            outcomes.append([bytes(raw) for raw in raws] + [request.model_name, request.id])
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("data", [b"\x3a" + b"\xff" * 200, b"\x0a" + b"\x80" * 9 + b"\x7f"])
def test_a_length_beyond_all_bounds_is_refused(data):
    with pytest.raises(RequestError, match="Unable to parse request"):
        wire.read_request(wire._cut(data))


def test_more_fields_than_are_looped_over_are_left_to_the_parser():
    request = service_pb2.ModelInferRequest(raw_input_contents=[b""] * (wire.MAX_FIELDS + 1))
    assert wire.cut(request.SerializeToString()).raws is None


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16383, 16384, (1 << 32) - 1, 1 << 40])
def test_numbers_are_written_as_protobuf_writes_them(value):
    message = INFERENCE_MESSAGES["StatisticDuration"](count=value)
    written = message.SerializeToString()
    assert written == (b"\x08" + wire.number(value) if value else b"")
