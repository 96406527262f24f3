"""Connects, counts and shows, on one thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Protocol, TextIO

import msgspec

from edgert.interrupt import Interrupt
from edgert.listen.counts import Instant
from edgert.listen.display import Display
from edgert.listen.link import Link, LinkState
from edgert.listen.roll_call import RollCall
from edgert.listen.target import Target
from edgert.listen.watch import Watch
from edgert.publish.known_broker import KnownBroker
from edgert.publish.mqtt import PahoSession
from edgert.publish.role import Remedies, Role
from edgert.publish.session import Received

LOOK_UP_S = 0.1  # how often the display is asked what is due
LISTENER = Role(
    receive_maximum=65_535,
    receive_bytes=268_435_455,  # MQTT's own limit: tensors may be large
    packets_at_once=1000,
    remedies=Remedies(
        credentials="check --user, --password-file and the broker's access list",
        tls="does it want --tls?",
        certificate="does it want --certificate-file?",
        port="is this its port for TLS? Try --port 8883, or no --tls",
    ),
)


class Bounds(msgspec.Struct, frozen=True):
    """When to end without being asked; None: never for that."""

    seconds: float | None = None  # after the first connect
    count: int | None = None  # of results


class Pumped(Protocol):
    """What `link.Link` is, once open."""

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Return what has arrived within the time."""


class Stop(Protocol):
    """What `interrupt.Interrupt` is."""

    def is_asked(self) -> bool:
        """Say whether somebody has asked for the end."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""


def now() -> Instant:
    """Return this moment."""
    return Instant(time.monotonic_ns(), time.time_ns())


def listen(target: Target, display: Display, out: TextIO, bounds: Bounds) -> None:
    """Listen until `bounds` or Ctrl-C, then summarize.

    Raises:
        SinkError: the broker cannot be reached, or refuses, at the first connect.
        ConfigError: it does not accept the credentials, or a secret or certificate cannot be read.
    """
    watch = Watch(target.broker.topic_root)
    with ExitStack() as undo:
        link = _link(target, partial(_link_changed, watch, display))
        undo.callback(link.close)
        link.open()
        stop = undo.enter_context(Interrupt())
        started = now()
        undo.callback(display.close)
        display.open()
        follow(_pumped(link, target, display), watch, display, out, stop, bounds, now)
    moment = now()
    display.summarize(watch, (moment.mono_ns - started.mono_ns) / 1e9, moment)
    out.flush()


def _link_changed(watch: Watch, display: Display, state: LinkState) -> None:
    if not state.is_connected:
        watch.skip()
    display.link_changed(state, now())


def follow(
    link: Pumped,
    watch: Watch,
    display: Display,
    out: TextIO,
    stop: Stop,
    bounds: Bounds,
    clock: Callable[[], Instant],
) -> None:
    """Count and show what arrives until `stop` or `bounds`."""
    began_ns = clock().mono_ns
    left_s = float("inf") if bounds.seconds is None else bounds.seconds
    while not stop.is_asked() and left_s > 0:
        received = link.pump(stop.fileno(), min(LOOK_UP_S, left_s))
        is_full = _take_in(received, watch, display, bounds.count, clock)
        display.tick(watch, clock())
        out.flush()
        if is_full:
            return
        if bounds.seconds is not None:
            left_s = bounds.seconds - (clock().mono_ns - began_ns) / 1e9


def _take_in(
    messages: list[Received],
    watch: Watch,
    display: Display,
    count: int | None,
    clock: Callable[[], Instant],
) -> bool:
    """Return whether there are `count` results now; what came after them is left out."""
    for received in messages:
        moment = clock()
        event = watch.feed(received, moment)
        if event is not None:
            display.heard(received, event, moment)
        if count is not None and watch.result_count >= count:
            return True
    return False


def _pumped(link: Link, target: Target, display: Display) -> Pumped:
    """Return the link, with an eye on the node if only one is listened for."""
    return RollCall(link, target.broker.topic_root, target.node, display.notice) if target.node else link


def _link(target: Target, on_state: Callable[[LinkState], None]) -> Link:
    options = target.broker
    brokers = [KnownBroker(host, port, options.protocol) for host, port in options.addresses]
    # Never the node's own client id: the broker would disconnect the node.
    client_id = f"edgert-listen-{os.urandom(4).hex()}"
    make = partial(PahoSession, options, client_id=client_id, resolve=target.resolve, role=LISTENER)
    return Link(brokers, target.filters, options.user, make, on_state)
