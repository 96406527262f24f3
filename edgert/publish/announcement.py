"""What Home Assistant has been told of a node, and what it has to be told next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgert.publish.complaint import Complaint
from edgert.publish.dialect import NativeDialect
from edgert.publish.encoder import Encoder
from edgert.publish.home_assistant import Components, HomeAssistantOptions, components, config_topic, payload
from edgert.publish.session import Message, Received

log = logging.getLogger(__name__)

ONLINE = b"online"  # Home Assistant's word when it has started


class HomeAssistantDialect(NativeDialect):
    """edgert's own dialect, and what Home Assistant has to know to show it."""

    def __init__(self, prefix: str, encoder: Encoder, expiry_s: int, announcement: Announcement) -> None:
        super().__init__(prefix, encoder, expiry_s)
        self._announcement = announcement
        self.subscriptions = announcement.subscriptions

    def greeting(self) -> list[Message]:
        """Return the announcement of everything."""
        return self._announcement.greeting()

    def received(self, received: Received) -> list[Message]:
        """Announce again when Home Assistant has started."""
        return self._announcement.received(received)

    def described(
        self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]
    ) -> list[Message]:
        """Return what is new."""
        return self._announcement.update(sources, labels)


class Announcement:
    """What Home Assistant knows of a node, and what it has to be told next. No I/O. Any thread.

    A component that is no more is announced once again with nothing but its platform, which removes it;
    then a message follows that leaves it out, because that is the one to be retained. What an earlier
    process announced is learnt from its retained message, so subscribe before the greeting is sent. The
    messages have to be sent in the order in which they were asked for.
    """

    def __init__(self, node: str, prefix: str, options: HomeAssistantOptions, version: str) -> None:
        self._node = node
        self._prefix = prefix
        self._options = options
        self._version = version
        self._topic = config_topic(node, prefix, options)
        self.subscriptions = (options.status_topic, self._topic)
        self._lock = threading.Lock()
        self._components: Components = {}  # as they are now
        self._platforms: dict[str, str] = {}  # of all that Home Assistant may have heard of
        self._complaint = Complaint(log, "Home Assistant")

    def update(
        self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]
    ) -> list[Message]:
        """Take each source's models and each model's labels; return what to send, if anything is new."""
        found = components(self._node, self._prefix, sources, labels, self._options)
        with self._lock:
            self._complain(labels)
            if found == self._components:
                return []
            self._components = found
            return self._announced()

    def greeting(self) -> list[Message]:
        """Return what to send on a new connection: everything, for the broker may have lost it."""
        with self._lock:
            return self._announced()

    def received(self, received: Received) -> list[Message]:
        """Return the answer to a message of one of `subscriptions`.

        A retained `online` is none of Home Assistant's start; the greeting has just gone.
        """
        with self._lock:
            if received.topic == self._options.status_topic:
                has_started = received.payload == ONLINE and not received.is_retained
                return self._announced() if has_started else []
            if received.topic == self._topic and received.is_retained:
                return self._learn(_platforms(received.payload))
        return []

    def withdraw(self) -> list[Message]:
        """Return what makes Home Assistant forget the node; nothing is announced until the next `update`."""
        with self._lock:
            self._components = {}
            self._platforms = {}
        return [Message(self._topic, b"", qos=1, is_retained=True)]

    def _learn(self, platforms: dict[str, str]) -> list[Message]:
        """Remember what was announced; remove at once what is no more, if it is known what is."""
        has_news = not platforms.keys() <= self._platforms.keys()
        self._platforms = platforms | self._platforms
        return self._announced() if has_news else []

    def _announced(self) -> list[Message]:
        if not self._components:
            return []
        gone: Components = {
            key: {"platform": platform}
            for key, platform in self._platforms.items()
            if key not in self._components
        }
        self._platforms |= {key: entity["platform"] for key, entity in self._components.items()}
        # Those that are gone come first: behind one that it is still busy with, Home Assistant reads nothing.
        steps = [gone | self._components, self._components] if gone else [self._components]
        return [self._message(step) for step in steps]

    def _message(self, entities: Components) -> Message:
        body = payload(self._node, self._prefix, entities, self._version)
        return Message(self._topic, body, qos=1, is_retained=True, content_type="application/json")

    def _complain(self, labels: Mapping[str, Sequence[str]]) -> None:
        fault = _fault(labels, self._options)
        if fault:
            self._complaint.raised(fault)
        else:
            self._complaint.forget()


class _Announced(msgspec.Struct):
    platform: Literal["sensor", "binary_sensor", "image"]


class _Config(msgspec.Struct):
    components: dict[Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")], _Announced]


def _platforms(config_json: bytes) -> dict[str, str]:
    """Return the platform of each component of a config; nothing for what edgert does not write."""
    try:
        config = msgspec.json.decode(config_json, type=_Config)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return {key: component.platform for key, component in config.components.items()}


def _fault(labels: Mapping[str, Sequence[str]], options: HomeAssistantOptions) -> str | None:
    if options.labels is None:
        many = [model for model, own in labels.items() if len(set(own)) > options.max_labels]
        if many:
            said = f"only the first {options.max_labels} labels of {', '.join(many)} get a sensor"
            return f"{said}; name those that matter in home_assistant.labels, or raise max_labels"
    elif labels and all(labels.values()):
        unknown = set(options.labels).difference(*labels.values())
        if unknown:
            return f"no model has the labels {', '.join(map(repr, sorted(unknown)))}"
    return None
