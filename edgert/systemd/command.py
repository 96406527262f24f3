"""`edgert systemd show | install | remove`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.systemd.board import RECORDED, Board, look_at_board
from edgert.systemd.change import remove_empty_folders, replace_files
from edgert.systemd.links import links_to
from edgert.systemd.machine import Machine
from edgert.systemd.plan import UNIT_FOLDER, Request, check_instance, obsolete, planned, written_before
from edgert.systemd.program import PACKAGED_PROGRAM, program_folders, running_program
from edgert.systemd.stamp import State, is_ours, state_of, without_stamp

_SAID: dict[State, str] = {"new": "written", "changed": "updated", "unchanged": "unchanged", "edited": "kept"}


def run_systemd(options: argparse.Namespace) -> ExitCode:
    """Do what the command line asks for. Raises EdgertError."""
    machine = Machine(options.root.absolute())
    for instance in options.instances:
        check_instance(instance)
    if options.action == "remove":
        return remove(machine, tuple(options.instances))
    request = read_request(options, machine)
    return show(machine, request) if options.action == "show" else install(machine, request)


def read_request(options: argparse.Namespace, machine: Machine) -> Request:
    """Return the command line, with what it leaves open looked up. Raises ConfigError."""
    folders: tuple[Path, ...] = ()
    if options.program is not None:
        program = options.program
    elif machine.is_image:
        program = PACKAGED_PROGRAM
    else:
        program = running_program()
        folders = program_folders()
    board = _board(options, machine)
    return Request(tuple(options.instances), board, program, folders, tuple(options.credentials))


def show(machine: Machine, request: Request) -> ExitCode:
    """Print each file that `install` would write, and whether the machine has it."""
    plan = planned(machine, request)
    print(f"# {_described(machine, request)}")
    for path, content in plan.items():
        print(f"\n# {machine.at(path)}: {state_of(machine.at(path), content)}")
        print(without_stamp(content).decode(), end="")
    return ExitCode.OK


def install(machine: Machine, request: Request) -> ExitCode:
    """Write what is new or changed, and say what to do next. Raises ConfigError."""
    plan = planned(machine, request)
    machine.demand_rights("install", request.program)
    states = {path: state_of(machine.at(path), content) for path, content in plan.items()}
    gone = [machine.at(path) for path in obsolete(machine, plan)]
    fresh = {machine.at(path): plan[path] for path, state in states.items() if state in ("new", "changed")}
    replace_files(fresh, gone)
    print(_described(machine, request))
    _print_changes(machine, states, gone)
    left = machine.make_user()
    machine.read_units_again()
    has_changed = bool(gone) or "changed" in states.values()
    print("Next:")
    for step in (
        *(f"on its first start: {step}" for step in left),
        *_next_steps(machine, request, has_changed),
    ):
        print(f"  {step}")
    edited = (machine.at(path) for path, state in states.items() if state == "edited")
    return _code_for(edited, "To have edgert's, delete it and install again.")


def remove(machine: Machine, instances: tuple[str, ...] = ()) -> ExitCode:
    """Stop and remove what `install` has written; with instances, what it has written for them."""
    machine.demand_systemd()
    machine.demand_rights("remove", Path("edgert"))
    found = [machine.at(path) for path in written_before(machine, instances)]
    ours = [*(path for path in found if is_ours(path)), *links_to(machine, instances)]
    machine.stop([f"edgert@{name}.service" for name in instances] or ["edgert@*.service", "edgert.target"])
    replace_files({}, ours)
    remove_empty_folders(path.parent for path in ours if path.parent.is_relative_to(machine.at(UNIT_FOLDER)))
    machine.read_units_again()
    for path in ours:
        print(f"  removed: {path}")
    if not ours:
        print("  nothing of edgert's to remove")
    print("Left as they are: the user edgert, /etc/edgert, /var/lib/edgert, /var/cache/edgert")
    return _code_for((path for path in found if path not in ours), "If nobody needs it, delete it.")


def _board(options: argparse.Namespace, machine: Machine) -> Board:
    if options.board is not None:
        return RECORDED[options.board]
    if machine.is_image:
        choice = " | ".join(RECORDED)
        raise ConfigError(f"--root {options.root}: an image has no devices to look at. Add: --board {choice}")
    return look_at_board(machine.root)


def _described(machine: Machine, request: Request) -> str:
    version = machine.systemd_version()
    return f"{request.board.name}; systemd {version}" if version else f"{request.board.name}; no systemd yet"


def _print_changes(machine: Machine, states: Mapping[Path, State], gone: Iterable[Path]) -> None:
    for path, state in states.items():
        print(f"  {_SAID[state]}: {machine.at(path)}")
    for path in gone:
        print(f"  removed, no longer needed: {path}")


def _next_steps(machine: Machine, request: Request, has_changed: bool) -> Iterator[str]:
    """Yield what a person does after the installation."""
    instances = request.instances or ("NAME",)
    services = " ".join(f"edgert@{name}.service" for name in instances)
    if machine.is_image and not machine.at(request.program).exists():
        yield f"install edgert's package in the image: there is no {machine.at(request.program)}"
    for name in instances:
        file = machine.at(f"/etc/edgert/{name}.toml")
        if not file.exists():
            yield f"put the pipeline file in {file}"
        if not machine.is_image:
            yield f"{request.program} check {file}"
    if machine.is_image:
        yield f"systemctl --root={machine.root} enable edgert.target {services}"
        return
    yield f"systemctl enable --now edgert.target {services}"
    if has_changed:
        yield "systemctl try-restart 'edgert@*.service'    # what runs already follows the files of before"
    yield f"journalctl -f -u {services.split()[0]}"


def _code_for(edited: Iterable[Path], advice: str) -> ExitCode:
    """Say which files stay, as somebody has edited or made them; what to do with these, a person decides."""
    code = ExitCode.OK
    for path in edited:
        print(f"{path} is not as edgert wrote it, so it stays. {advice}")
        code = ExitCode.CONFIG
    return code
