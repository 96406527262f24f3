"""Makes locks: which wheels a target needs, by pip's resolver, for the target's Python and not for ours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cross.errors import CrossError
from cross.lock import TOOLS, Pin, canonical_name, lock_file, write_lock
from cross.own_wheel import CHECKOUT, HOST_PLATFORMS, HOST_PYTHON, NVRTC_DISTRIBUTION
from cross.target import Target
from cross.wheels import for_platform, run_pip
from edgert.config import Document, Tree
from edgert.errors import ConfigError

TOOL_REQUIREMENTS = ("hatchling>=1.25", "tomli>=2")
NVRTC_REQUIREMENT = f"{NVRTC_DISTRIBUTION}==12.6.*"

Environment = dict[str, str]


class Asked(NamedTuple):
    """What to resolve: requirements, and the versions to keep to."""

    requirements: list[str]
    constraints: list[str]
    without: frozenset[str]


def lock_target(target: Target) -> Path:
    """Write the lock of a target and return its file. Raises ConfigError, CrossError."""
    environment = environment_of(target)
    asked = Asked(
        requirements_of(target, Document.load(CHECKOUT / "pyproject.toml").tree, environment),
        constraints_of(target, (CHECKOUT / "requirements.lock").read_text("utf-8").splitlines(), environment),
        frozenset(map(canonical_name, target.wheels.without)),
    )
    pins = resolve(asked, target.platforms, target.python, environment)
    file = lock_file(target.name)
    write_lock(file, pins, f"python -m cross lock {target.name}")
    return file


def lock_tools() -> Path:
    """Write the lock of what makes edgert's wheel and kernels on the machine that builds."""
    names = [*TOOL_REQUIREMENTS, NVRTC_REQUIREMENT]
    environment = _environment(HOST_PYTHON, "x86_64")
    pins = resolve(Asked(names, [], frozenset()), HOST_PLATFORMS, HOST_PYTHON, environment)
    file = lock_file(TOOLS)
    write_lock(file, pins, "python -m cross lock tools")
    return file


def resolve(asked: Asked, platforms: tuple[str, ...], python: str, environment: Environment) -> list[Pin]:
    """Return the wheels that are needed, without those that the target leaves out.

    pip takes the wheels for the target but reads markers (`python_version < "3.11"`) for the Python that runs
    it. So what it left out for that is asked for by name until nothing is missing, and what the target does
    not need is dropped.
    """
    wanted = list(asked.requirements)
    while True:
        report = _report(wanted, asked.constraints, platforms, python)
        needed = _needed(asked.requirements, report, environment, asked.without)
        missing = [name for name in needed if name not in report]
        if not missing:
            return [_pin(report[name]) for name in needed]
        wanted += missing


def _report(
    requirements: list[str], constraints: list[str], platforms: tuple[str, ...], python: str
) -> dict[str, Any]:
    """Return what pip would install: by canonical name, its part of pip's report."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "constraints.txt")
        kept.write_text("".join(f"{line}\n" for line in constraints))
        report = Path(folder, "report.json")
        run_pip(
            *("install", "-q", "--dry-run", "--ignore-installed", "--target", folder),
            *("--report", str(report), "-c", str(kept), *for_platform(platforms, python), *requirements),
        )
        items = msgspec.json.decode(report.read_bytes())["install"]
    return {canonical_name(item["metadata"]["name"]): item for item in items}


def _needed(
    requirements: Iterable[str], report: dict[str, Any], environment: Environment, without: frozenset[str]
) -> list[str]:
    """Return the names that the target's markers lead to, from the requirements on."""
    from packaging.requirements import Requirement

    found: dict[str, None] = {}
    left = [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        name = canonical_name(requirement.name)
        if name in found or name in without:
            continue
        found[name] = None
        for text in report.get(name, {}).get("metadata", {}).get("requires_dist") or ():
            deeper = Requirement(text)
            if deeper.marker is None or deeper.marker.evaluate({**environment, "extra": ""}):
                left.append(deeper)
    return list(found)


def _pin(item: Any) -> Pin:
    download = item["download_info"]
    return Pin(download["archive_info"]["hashes"]["sha256"], download["url"].rpartition("/")[2])


def requirements_of(target: Target, project: Tree, environment: Environment) -> list[str]:
    """Return edgert's dependencies and those of the target's extras, without what it leaves out.

    Raises:
        ConfigError: edgert has no such extra.
    """
    from packaging.requirements import Requirement

    extras = project["project"]["optional-dependencies"]
    unknown = sorted(set(target.wheels.extras) - set(extras))
    if unknown:
        raise ConfigError(f"{target.name}: wheels.extras: edgert has no extra {unknown[0]!r}")
    texts = [*project["project"]["dependencies"]]
    for extra in target.wheels.extras:
        texts += extras[extra]
    without = set(map(canonical_name, target.wheels.without))
    parsed = [Requirement(text) for text in texts]
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in parsed
        if canonical_name(requirement.name) not in without
        and (requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""}))
    ]


def constraints_of(target: Target, lines: list[str], environment: Environment) -> list[str]:
    """Return the target's pins and, for the others, what requirements.lock says for its Python."""
    from packaging.requirements import Requirement

    pinned = {canonical_name(Requirement(pin).name) for pin in target.wheels.pins}
    held = []
    for line in lines:
        requirement = Requirement(line)
        holds = requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""})
        if holds and canonical_name(requirement.name) not in pinned:
            held.append(f"{requirement.name}{requirement.specifier}")
    return [*target.wheels.pins, *held]


def environment_of(target: Target) -> Environment:
    """Return what markers are read against."""
    return _environment(target.python, target.architecture)


def _environment(python: str, architecture: str) -> Environment:
    try:
        import packaging.markers  # noqa: F401
    except ImportError as error:
        raise CrossError("Making a lock needs the package packaging: pip install packaging") from error
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": architecture,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
