"""Which edgert the service runs, and what of it stands where the service cannot look."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgert.errors import ConfigError

PACKAGED_PROGRAM = Path("/opt/edgert/bin/edgert")  # as edgert@.service has it
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - named in order to refuse them


def running_program() -> Path:
    """Return the program that started this process. Raises ConfigError if there is none to start again."""
    package = Path(__file__).resolve().parents[1]
    script = Path(sysconfig.get_path("scripts"), "edgert")
    of_environment = [script] if sys.prefix != sys.base_prefix else []
    around = [folder / "bin" / "edgert" for folder in package.parents]
    candidates = [Path(sys.argv[0]).absolute(), *of_environment, *around, script]
    for path in candidates:
        if path.name == "edgert" and path.is_file() and os.access(path, os.X_OK):
            return path
    raise ConfigError(f"Found no program edgert that belongs to {package}. Name it: --program FILE")


def program_folders() -> tuple[Path, ...]:
    """Return what the program of this process needs to read: environment, interpreter and package."""
    package = Path(__file__).resolve().parents[1]
    return (Path(sys.prefix), Path(sys.base_prefix), package.parent)


def folders_in_homes(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return those below somebody's home, the outermost of each. Raises ConfigError for one in /tmp."""
    kept: list[Path] = []
    for folder in sorted(set(folders)):
        if any(folder.is_relative_to(place) for place in _PRIVATE):
            raise ConfigError(
                f"{folder}: the service has a /tmp of its own and cannot see this. Let edgert stand in "
                f"{PACKAGED_PROGRAM.parents[1]}, where its package puts it, or set it up anew in another "
                "place, say /srv/edgert; one that stands elsewhere already: --program FILE"
            )
        in_home = any(folder.is_relative_to(home) for home in _HOMES)
        if in_home and not any(folder.is_relative_to(outer) for outer in kept):
            kept.append(folder)
    return tuple(kept)


def program_drop_in(program: Path, folders: Iterable[Path]) -> str:
    """Return the drop-in that starts this program instead of the package's. Raises ConfigError."""
    if not program.is_absolute() or any(letter in str(program) for letter in "%\n\"' "):
        raise ConfigError(f"{program}: expected an absolute path of a program, without spaces, quotes and %")
    lines = [
        "# The edgert that `edgert systemd install` was called with.",
        "",
        "[Service]",
        "ExecStart=",
        f"ExecStart={program} run /etc/edgert/%i.toml",
        *_home_lines(folders_in_homes(folders)),
    ]
    return "\n".join(lines) + "\n"


def _home_lines(folders: tuple[Path, ...]) -> Iterator[str]:
    if folders:
        yield "# It stands in a home: of homes the service sees this, and can write nothing."
        yield "ProtectHome=tmpfs"
        yield from (f"BindReadOnlyPaths={folder}" for folder in folders)
