"""Root file systems for these tests, with as much of a machine in them as `edgert systemd` looks at."""

from __future__ import annotations

from pathlib import Path

from edgert.systemd.machine import Machine

_RECORDED = Path(__file__).with_name("boards")


def make_root(folder, version=252):
    """Make a root file system with that systemd in it."""
    library = folder / f"usr/lib/systemd/libsystemd-shared-{version}.so"
    library.parent.mkdir(parents=True)
    library.touch()
    return folder


def add_board(root, name):
    """Add /proc/devices and the nodes of a recorded board; the nodes are plain files."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/devices").write_bytes((_RECORDED / f"{name}.devices").read_bytes())
    for node in (_RECORDED / f"{name}.nodes").read_text().split():
        path = root / "dev" / node
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


class NotedMachine(Machine):
    """A machine that notes which of systemd's programs would have run."""

    def __init__(self, root):
        self.ran = []
        super().__init__(root, run=self.ran.append)


def tree(root):
    """Return every file and link below a folder, with its content."""
    found = (path for path in sorted(root.rglob("*")) if path.is_symlink() or path.is_file())
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in found
    }
