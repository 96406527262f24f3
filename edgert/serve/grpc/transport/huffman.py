"""HPACK's Huffman code (RFC 7541, appendix B), which is canonical: the lengths say all."""

from __future__ import annotations

from edgert.serve.grpc.transport.http2 import ErrorCode, Http2Error

# A length for each byte and for the end, in base 36.
_LENGTHS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad677777777777777777777"
    "77878djde6f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmo"
    "lmnnllmlnmnnkmmmnmmnqqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu"
)
_END = 256
_MAX_PADDING = 7  # bits


def _symbols() -> dict[str, int]:
    """Return the symbols by their code, written as text of 0 and 1."""
    lengths = [int(digit, 36) for digit in _LENGTHS]
    code = last = 0
    symbols = {}
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - last
        last = lengths[symbol]
        symbols[f"{code:0{last}b}"] = symbol
        code += 1
    del symbols["1" * int(_LENGTHS[_END], 36)]  # nobody may send the end
    return symbols


_SYMBOLS = _symbols()
_STEPS = sorted({len(code) for code in _SYMBOLS})


def decode_huffman(data: bytes) -> bytes:
    """Return the text. Raises Http2Error."""
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
    decoded = bytearray()
    at = 0
    while at < len(bits):
        for step in _STEPS:
            symbol = _SYMBOLS.get(bits[at : at + step])
            if symbol is not None:
                decoded.append(symbol)
                at += step
                break
        else:
            _check_padding(bits[at:])
            break
    return bytes(decoded)


def _check_padding(rest: str) -> None:
    if len(rest) > _MAX_PADDING or "0" in rest:
        raise Http2Error(ErrorCode.COMPRESSION_ERROR, "a header's Huffman code is malformed")
