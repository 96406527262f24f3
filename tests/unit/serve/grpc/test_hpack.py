"""HPACK: the examples of RFC 7541, appendix C, and what is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.serve.grpc.transport.hpack import TABLE_BYTES, HeaderDecoder
from edgert.serve.grpc.transport.hpack_table import STATIC_TABLE
from edgert.serve.grpc.transport.http2 import ErrorCode, Http2Error
from edgert.serve.grpc.transport.huffman import decode_huffman

FIRST = {b":method": b"GET", b":scheme": b"http", b":path": b"/", b":authority": b"www.example.com"}
SECOND = {**FIRST, b"cache-control": b"no-cache"}
THIRD = {
    b":method": b"GET",
    b":scheme": b"https",
    b":path": b"/index.html",
    b":authority": b"www.example.com",
    b"custom-key": b"custom-value",
}


def decoder():
    return HeaderDecoder(1 << 14, 100)


@pytest.mark.parametrize(
    "blocks",
    [
        (  # C.3, plain
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (  # C.4, Huffman
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
)
def test_the_examples_of_the_specification_are_read(blocks):
    reader = decoder()
    assert [reader.decode(bytes.fromhex(block)) for block in blocks] == [FIRST, SECOND, THIRD]


def test_only_short_blocks_are_remembered():
    reader = decoder()
    long, short = b"\x00\x01a\x7f\xff\x01" + b"x" * 382, b"\x82\x86\x84"
    for block in (long, short):
        assert reader.decode(block) == reader.decode(block)
    assert reader.decode(long) is not reader.decode(long)
    assert reader.decode(short) is reader.decode(short)


def test_the_static_table_is_that_of_the_specification():
    assert len(STATIC_TABLE) == 61
    assert STATIC_TABLE[0] == (b":authority", b"")
    assert STATIC_TABLE[7] == (b":status", b"200")
    assert STATIC_TABLE[15] == (b"accept-encoding", b"gzip, deflate")
    assert STATIC_TABLE[60] == (b"www-authenticate", b"")


def test_a_block_that_refers_to_the_table_changes_its_meaning_with_it():
    reader = decoder()
    reader.decode(bytes.fromhex("400161") + b"\x01x")
    assert reader.decode(b"\xbe") == {b"a": b"x"}
    assert reader.decode(b"\xbe") == {b"a": b"x"}
    reader.decode(bytes.fromhex("400161") + b"\x01y")
    assert reader.decode(b"\xbe") == {b"a": b"y"}
    assert reader.decode(b"\xbf") == {b"a": b"x"}


def test_the_table_forgets_the_oldest():
    reader = decoder()
    for letter in b"abcd":
        reader.decode(b"\x40\x01" + bytes((letter,)) + b"\x7f\xd1\x0e" + bytes(2000))
    assert reader.decode(b"\xbf") == {b"c": bytes(2000)}
    with pytest.raises(Http2Error):
        reader.decode(b"\xc0")


def test_a_smaller_table_forgets_and_a_larger_one_is_refused():
    reader = decoder()
    reader.decode(b"\x40\x01a\x01x")
    reader.decode(b"\x20")  # 0 bytes
    with pytest.raises(Http2Error):
        reader.decode(b"\xbe")
    with pytest.raises(Http2Error):
        decoder().decode(b"\x3f" + bytes((0x80 | (TABLE_BYTES + 1 - 31) & 0x7F, (TABLE_BYTES + 1 - 31) >> 7)))


@pytest.mark.parametrize(
    "block",
    [
        "80",  # entry 0
        "be",  # an entry that is not there
        "ff8080808080808080",  # a number without end
        "4001",  # a name that ends too early
        "400161",  # no value
        "40016105ab",  # a value that ends too early
        "00016184ffffffff",  # the end within Huffman code
        "0001618100",  # padding of 0
        "00016182 1fff".replace(" ", ""),  # padding of more than 7 bits
    ],
)
def test_malformed_blocks_are_refused(block):
    with pytest.raises(Http2Error) as raised:
        decoder().decode(bytes.fromhex(block))
    assert raised.value.code == ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("limits", [(1 << 14, 3), (100, 100)])
def test_headers_over_the_limits_are_not_kept_but_change_the_table(limits):
    reader = HeaderDecoder(*limits)
    assert reader.decode(b"\x82" * 4 + b"\x40\x01a\x01b") is None
    assert reader.decode(b"\xbe") == {b"a": b"b"}


@given(st.binary(max_size=60))
def test_garbage_is_read_or_refused(block):
    reader = decoder()
    try:
        headers = reader.decode(block)
    except Http2Error:
        return
    assert all(isinstance(text, bytes) for pair in headers.items() for text in pair)


@given(st.binary(max_size=30))
def test_no_huffman_code_hangs_or_crashes(data):
    try:
        decoded = decode_huffman(data)
    except Http2Error:
        return
    assert len(decoded) <= 8 * len(data) // 5
