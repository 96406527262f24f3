"""Hears commands, refuses what is not allowed, does the rest, and answers each once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from edgert.control.limits import Allowance
from edgert.control.options import ControlOptions
from edgert.control.request import Refusal, RefusedError, identity_of, read_command
from edgert.control.verbs import VERBS, AnyCommand, Target
from edgert.control.worker import Worker
from edgert.errors import BusyError, ClosedError, EdgertError
from edgert.publish.session import Received
from edgert.stats import Tally

log = logging.getLogger(__name__)

Status = Literal["ok", "failed"] | Refusal

WAITING = 8  # commands that may wait for the one that runs
SHOWN = 64  # characters of a verb that nobody knows, in logs and answers
FLOOD_ANSWER_NS = 1_000_000_000
WARNING_INTERVAL_NS = 60_000_000_000  # a flood of commands is warned of once in this time
STOPS = "the node stops"


class Commands:
    """Takes what arrives at `cmd/<verb>`. `answer` gets the message that is answered, and the JSON.

    Refusals, `drain` and `ping` are answered before `handle` returns. All else is done in order on a
    thread of its own, and answered there.
    """

    def __init__(
        self,
        options: ControlOptions,
        target: Target,
        answer: Callable[[Received, bytes], None],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._options = options
        self._target = target
        self._answer = answer
        self._mono_ns = mono_ns
        self._allowance = Allowance(options.per_minute, mono_ns=mono_ns)
        self._worker: Worker[_Call] = Worker(self._run, WAITING)
        self._answering = threading.Lock()
        self._warned_ns = mono_ns() - WARNING_INTERVAL_NS
        self._flood_told_ns = mono_ns() - FLOOD_ANSWER_NS
        self.counts = Tally()  # answers by status

    def open(self) -> None:
        """Start the thread."""
        self._worker.open()

    def handle(self, received: Received) -> None:
        """Refuse the command, or see that it is done. One thread, the connection's; returns at once."""
        verb = received.topic.rpartition("/")[2]
        call = _Call(received, verb)
        try:
            call.command = self._admit(verb, received)
            if call.command.WAITS:
                self._worker.put(call)
            else:
                self._run(call)
        except RefusedError as refused:
            self._finish(call, refused.status, str(refused), is_answered=self._is_told(refused.status))
        except BusyError:
            self._finish(call, "busy", f"{WAITING} commands wait already; ask again later")
        except ClosedError:
            self._finish(call, "failed", STOPS)

    def close(self, timeout_s: float) -> None:
        """Begin no command any more, and wait for the one that runs.

        Those left, also one that runs for longer than `timeout_s`, are answered `failed`, and so are
        those that come afterwards, except `drain` and `ping`.
        """
        for call in self._worker.close(timeout_s):
            self._finish(call, "failed", STOPS)

    def _admit(self, verb: str, received: Received) -> AnyCommand:
        if not self._allowance.take():
            raise RefusedError("too_many", f"more than {self._options.per_minute} commands a minute")
        if received.is_retained:
            raise RefusedError(
                "bad_request", "retained, so it would run at each reconnect; send it unretained"
            )
        if verb not in VERBS:
            raise RefusedError("unknown_verb", f"no verb {verb[:SHOWN]!r}; verbs: {', '.join(VERBS)}")
        if len(received.payload) > self._options.max_bytes:
            raise RefusedError(
                "too_large", f"{len(received.payload)} bytes; at most {self._options.max_bytes} are taken"
            )
        if not self._options.allows_some(verb):
            raise RefusedError("not_allowed", f"control.allow does not name {verb}")
        command = read_command(verb, received.payload)
        if not self._options.allows(verb, command.subject):
            wanted = f"for {VERBS[verb].SUBJECT} {command.subject!r}" if command.subject else "for all"
            raise RefusedError("not_allowed", f"control.allow does not name {verb} {wanted}")
        return command

    def _run(self, call: _Call) -> None:
        assert call.command is not None  # noqa: S101 - our own invariant
        try:
            fields = call.command.run(self._target)
        except EdgertError as error:
            self._finish(call, "failed", str(error), {"error": error.status})
        except Exception as bug:  # a command must not end the service, nor go without an answer
            log.exception("command %.200r failed in a way that edgert did not foresee", call.received.topic)
            self._finish(call, "failed", repr(bug), {"error": "bug"})
        else:
            self._finish(call, "ok", "", fields)

    def _is_told(self, status: Status) -> bool:
        """Say whether a refusal is answered: of a flood only one a second is."""
        if status != "too_many":
            return True
        now_ns = self._mono_ns()
        is_due = now_ns >= self._flood_told_ns + FLOOD_ANSWER_NS
        if is_due:
            self._flood_told_ns = now_ns
        return is_due

    def _finish(
        self,
        call: _Call,
        status: Status,
        message: str,
        fields: Mapping[str, Any] = {},
        *,
        is_answered: bool = True,
    ) -> None:
        """Count, and answer, unless that has been done."""
        with self._answering:
            if call.is_answered:
                return
            call.is_answered = True
        self.counts.add(status)
        log.log(
            self._level(status),
            "command %.200r: %s%s",
            call.received.topic,
            status,
            message and f": {message}",
        )
        if not is_answered:
            return
        said = {
            "status": status,
            "message": message,
            "verb": call.verb[:SHOWN],
            **call.known_fields(),
            **fields,
        }
        self._answer(call.received, msgspec.json.encode(said))

    def _level(self, status: Status) -> int:
        """Warn of what is refused, but once of a flood."""
        if status == "ok":
            return logging.INFO
        if status != "too_many":
            return logging.WARNING
        is_due = self._mono_ns() - self._warned_ns >= WARNING_INTERVAL_NS
        self._warned_ns = self._mono_ns() if is_due else self._warned_ns
        return logging.WARNING if is_due else logging.DEBUG


class _Call(msgspec.Struct, eq=False):
    """A command that was received and has to be answered."""

    received: Received
    verb: str
    command: AnyCommand | None = None  # None: refused
    is_answered: bool = False

    def known_fields(self) -> dict[str, Any]:
        """Return what the answer repeats of the payload."""
        if self.command is not None:
            fields: dict[str, Any] = msgspec.to_builtins(self.command)
            return fields
        identity = identity_of(self.received.payload)
        return {} if identity is None else {"id": identity}
