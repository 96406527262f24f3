"""Connects, counts and shows, on one thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Protocol, TextIO

import msgspec

from edgert.listen.counts import Instant
from edgert.listen.display import Display
from edgert.listen.interrupt import Interrupt
from edgert.listen.link import Broker, Link, LinkState
from edgert.listen.subscription import Subscription
from edgert.listen.target import Target
from edgert.listen.watch import Watch
from edgert.publish.session import Received

LOOK_UP_S = 0.1  # how often the display is asked what is due


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

    is_asked: bool

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
        follow(link, watch, display, out, stop, bounds, now)
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
    while not stop.is_asked and left_s > 0:
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


def _link(target: Target, on_state: Callable[[LinkState], None]) -> Link:
    broker = target.broker
    versions = ["5", "3.1.1"] if broker.protocol == "auto" else [broker.protocol]
    brokers = [Broker(host, port, [*versions]) for host, port in broker.addresses]
    # Never the node's own client id: the broker would disconnect the node.
    client_id = f"edgert-listen-{os.urandom(4).hex()}"
    make = partial(Subscription, options=broker, client_id=client_id, resolve=target.resolve)
    return Link(brokers, target.filters, make, on_state)
