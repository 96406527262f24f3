"""Runs one command and writes what it took: python -I -S launch.py REPORT.json COMMAND...

A process that stays small: Linux counts the memory of the process that starts a program into that
program's ru_maxrss, so the bench itself, with its data in memory, must not be the one that starts it.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(report: Path, command: list[str]) -> int:
    """Run the command, write status, seconds and peak bytes, and return the command's status."""
    began = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    wall_s = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    told = {"status": code, "wall_s": wall_s, "peak_rss_bytes": used.ru_maxrss * 1024}
    report.write_text(json.dumps(told))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
