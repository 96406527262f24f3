"""Lays out what a bundle holds; the archive and the Debian package hold the same tree.

- bin/edgert: finds its Python and the rest from where it stands
- lib/edgert/launch.py: puts `site` before the system's modules and starts the command
- lib/edgert/site/: edgert and its wheels, unpacked
- lib/edgert/pycuda/: its source, where the board is to compile it
- share/doc/edgert/: README, examples, licences, bill of materials, checksums
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SITE = Path("lib", "edgert", "site")
PYCUDA = Path("lib", "edgert", "pycuda")
DOCUMENTS = Path("share", "doc", "edgert")
EXAMPLES = DOCUMENTS / "examples"
LICENCES = DOCUMENTS / "licences"

LAUNCHER = """#!/bin/sh
# Starts edgert with the Python {python} that its native modules were compiled for.
set -eu
here=$(dirname "$(dirname "$(readlink -f "$0")")")
for python in ${{EDGERT_PYTHON:-python{python} /usr/bin/python{python} python3}}; do
  if command -v "$python" >/dev/null 2>&1 &&
    "$python" -I -c 'import sys; sys.exit(sys.version_info[:2] != ({version}))' 2>/dev/null; then
    exec "$python" -I "$here/lib/edgert/launch.py" "$@"
  fi
done
echo "edgert: this bundle needs Python {python}. Install python{python}, or name it in EDGERT_PYTHON." >&2
exit 2
"""

LAUNCH = '''"""Starts edgert with the modules beside this file before those of the system."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().with_name("site")))

from edgert.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
'''


class Content(NamedTuple):
    """One file or link of a bundle: its bytes, or the file that has them."""

    data: bytes = b""
    file: Path | None = None
    is_program: bool = False
    link: str = ""

    def read(self) -> bytes:
        """Return the bytes. Raises OSError."""
        return self.data if self.file is None else self.file.read_bytes()

    @property
    def size(self) -> int:
        """In bytes; 0 of a link."""
        return len(self.data) if self.file is None else self.file.stat().st_size


Tree = dict[Path, Content]
