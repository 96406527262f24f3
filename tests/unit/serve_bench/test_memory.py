"""A group's memory as if it were alone."""

import os
import subprocess
import sys

from tests.serve_bench.memory import Mapping, added, memory_of, read_smaps

SMAPS = """\
55d0c0000000-55d0c0010000 r--p 00001000 fe:00 1234                       /usr/lib/libx.so.6
Size:                 64 kB
Rss:                  40 kB
Pss:                  12 kB
Shared_Clean:         36 kB
Shared_Dirty:          0 kB
Private_Clean:         4 kB
Private_Dirty:         0 kB
VmFlags: rd mr mw me sd
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Size:                132 kB
Pss:                  20 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:        20 kB
VmFlags: rd wr mr mw me gd ac
"""


def test_mappings_are_read_with_their_place():
    assert read_smaps(SMAPS) == [
        Mapping(("fe:00", "1234", "00001000"), 4096, 36 * 1024, 12 * 1024),
        Mapping(("00:00", "0", "00000000"), 20 * 1024, 0, 20 * 1024),
    ]
    assert read_smaps("") == []


def test_what_two_processes_share_counts_once_and_whole():
    library, other = ("fe:00", "1", "0"), ("fe:00", "2", "0")
    first = [Mapping(library, 10, 100, 50), Mapping(other, 0, 30, 15)]
    second = [Mapping(library, 5, 80, 40)]
    assert added([first, second]) == (10 + 5 + 100 + 30, 105)


def test_a_library_that_somebody_else_maps_too_counts_whole():
    command = [sys.executable, "-c", "print(flush=True); input()"]  # the interpreter is this process's too
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        child.stdout.readline()
        memory = memory_of([child.pid])
        child.communicate(b"\n")
    assert 0 < memory.pss_bytes < memory.alone_bytes < 100e6
    assert memory_of([child.pid]) == (0, 0)
    assert memory_of([os.getpid()]).alone_bytes > memory.alone_bytes
