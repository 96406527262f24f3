"""Makes what a board installs, on an x86-64 machine: `python -m cross build TARGET`."""
