"""Makes native files that hold nothing but what a loader reads first."""

from __future__ import annotations

import struct

ADDRESS = 0x40_0000  # where the file is loaded, so that an address is never an offset
MACHINES = {"x86_64": 62, "aarch64": 183, "arm": 40}


def make_elf(architecture="aarch64", soname="", needed=(), versions=()):
    """Return a 64-bit ELF file; `versions` are of `libc.so.6`'s symbols, `GLIBC_2.17`."""
    names = ["", soname, "libc.so.6", *needed, *versions]
    strings = b"".join(name.encode() + b"\0" for name in names)
    at = {name: strings.index(name.encode() + b"\0") for name in names if name}
    strings_at = 64 + 2 * 56
    needs_at = strings_at + len(strings) + -len(strings) % 8
    needs = _version_needs(at, versions)
    dynamic_at = needs_at + len(needs) + -len(needs) % 8
    entries = [(5, ADDRESS + strings_at), *((1, at[name]) for name in needed)]
    entries += [(14, at.get(soname, 0))] * bool(soname)
    entries += [(0x6FFFFFFE, ADDRESS + needs_at), (0x6FFFFFFF, 1)] * bool(versions)
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in [*entries, (0, 0)])
    size = dynamic_at + len(dynamic)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 3, MACHINES[architecture], 1, 0, 64, 0)
    )
    header += struct.pack("<IHHHHHH", 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, ADDRESS, size, size, 4096)
    place = ADDRESS + dynamic_at
    segment = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, place, place, len(dynamic), len(dynamic), 8)
    file = header + load + segment + strings
    file += bytes(needs_at - len(file)) + needs
    return file + bytes(dynamic_at - len(file)) + dynamic


def _version_needs(at, versions):
    if not versions:
        return b""
    needs = struct.pack("<HHIII", 1, len(versions), at["libc.so.6"], 16, 0)
    for index, name in enumerate(versions, 1):
        needs += struct.pack("<IHHII", 0, 0, index, at[name], 16 if index < len(versions) else 0)
    return needs
