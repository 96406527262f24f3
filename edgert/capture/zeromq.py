"""Frames from other processes over ZeroMQ, and answers to those who ask for them.

libzmq collects all parts of a message before it hands them over. `max_frame_mb` bounds each part, and
parts beyond those a message may have are thrown away unread, but libzmq has no bound on their number:
let only senders you trust reach an endpoint. `SourceOptions.check` makes a person say that they are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import zmq

from edgert.capture.answers import Encode
from edgert.capture.dialect import Dialect, EdgertDialect
from edgert.capture.frigate import FrigateDialect
from edgert.capture.message import PayloadReader, envelope_length
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.source import Captured
from edgert.capture.unforeseen import UnforeseenError, unforeseen_as
from edgert.capture.uri import FRIGATE
from edgert.capture.zeromq_link import Link
from edgert.errors import ClosedError, ConfigError, EdgertError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts


class ZeroMqSource:
    """One endpoint. A refused frame is raised as FrameError and, where the socket has answers, answered.

    `encode` makes the payload of an answer from a result, in the thread that reads the source. Sockets
    share `context` where one is given (`inproc://` demands that); else the source has its own.
    """

    def __init__(
        self,
        name: str,
        options: SourceOptions,
        *,
        encode: Encode,
        copies: CopyCounts | None = None,
        clock: Clock | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._name = name
        self._options = options
        self._spec = options.spec()
        self._encode = encode
        self._clock = clock or Clock()
        self._context = context
        self._counts: Counter[str] = Counter()
        make: type[EdgertDialect] | type[FrigateDialect]
        make = FrigateDialect if self._spec.dialect == FRIGATE else EdgertDialect
        payloads = PayloadReader(options.max_frame_bytes, copies or CopyCounts())
        self._dialect: Dialect = make(name, options, payloads, self._counts)
        self._link: Link | None = None

    @property
    def address(self) -> str:
        """Where the socket is bound, also if the URI left the port open."""
        return self._opened().address

    def open(self) -> None:
        """Bind or connect. Raises SourceError if that fails, ConfigError for inproc:// without a context."""
        if self._spec.is_inproc and self._context is None:
            raise ConfigError(f"{self._spec}: inproc:// reaches nobody without a context that is shared.")
        self._link = Link(self._options, self._context, self._encode, self._counts)

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Put the next message's frame into `slot`, with one copy; send the answers that wait."""
        link = self._opened()
        message = link.receive(timeout_s)
        if message is None:
            return None
        now_ns, utc_ns = self._clock.monotonic_ns(), self._clock.utc_ns()
        length = envelope_length(self._spec.socket, message)
        requester = None
        if link.outbox is not None:
            requester = self._dialect.requester(link.outbox, [bytes(part) for part in message[:length]])
        try:
            with unforeseen_as(UnforeseenError, "a message cannot be read"):
                captured = self._dialect.unpack(message[length:], slot, requester)
        except EdgertError as error:
            if requester is not None:
                requester.refuse(error)
                link.send_answers()
            raise
        if captured is None:
            link.send_answers()
            return None
        captured.captured_mono_ns = now_ns
        captured.captured_utc_ns = captured.captured_utc_ns or utc_ns
        return captured

    def helper_cpu_ns(self) -> int:
        """Return 0: the threads of libzmq cannot be asked."""
        return 0

    def tend(self, timeout_s: float) -> None:
        """Send answers for `timeout_s`; messages stay where they are."""
        self._opened().tend(timeout_s)

    def close(self) -> None:
        """Send the answers that wait, for at most about a second, and close the socket.

        Later answers, and requests that were not read, are dropped without a word.
        """
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._dialect.close()

    def take_counts(self) -> dict[str, int]:
        """Return and reset what was lost, by name.

        `gap`: frames that a SUB missed. `unsent_answer`: its client was gone, or left too many unread (a
        REP cannot tell). `unencoded_answer`: the client got an error instead. Of Frigate also
        `error_answer`: it was told of an error; `unknown_model`, `refused_model`: it asked for a model by
        another name, or offered one.
        """
        counts = dict(self._counts)
        self._counts.clear()
        return counts

    def _opened(self) -> Link:
        if self._link is None:
            raise ClosedError(f"{self._spec} is not open.")
        return self._link
