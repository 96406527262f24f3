"""`python -m cross`."""

from __future__ import annotations

import sys

from cross.command import main

if __name__ == "__main__":
    sys.exit(main())
