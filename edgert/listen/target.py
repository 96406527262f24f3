"""What to listen to: a broker and a part of its topics, from a pipeline file or the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgert.config import Document, Options, merge
from edgert.errors import ConfigError
from edgert.listen.subject import topic_filters
from edgert.publish import topics
from edgert.publish.options import MqttOptions, Resolve, SinkOptions

COMMAND_LINE = Path("the command line")


class Announced(msgspec.Struct):
    """The part of a pipeline file that says where its results go; the rest may need another machine."""

    node: str
    sinks: dict[str, SinkOptions] = {}


class Asked(Options, frozen=True, kw_only=True):
    """What the command line says. `broker` has keys of an MQTT sink, and wins over the file."""

    file: Path | None = None
    sink: str | None = None
    broker: dict[str, Any] = {}
    node: str | None = None
    source: str | None = None
    model: str | None = None


class Target(msgspec.Struct, frozen=True):
    """A broker, and what to listen for. Empty names stand for all."""

    broker: MqttOptions
    resolve: Resolve  # for the files that `broker` names
    node: str = ""
    source: str = ""
    model: str = ""

    @property
    def filters(self) -> list[str]:
        """The topic filters to subscribe to."""
        return topic_filters(self.broker.topic_root, self.node, self.source, self.model)


def read_target(asked: Asked) -> Target:
    """Return what to listen to. Raises ConfigError, naming file or argument."""
    _check_root(asked)
    broker, resolve, node = _own(asked) if asked.file is None else _of_file(asked, asked.file)
    for name, what in ((asked.node, "--node"), (asked.source, "--source"), (asked.model, "--model")):
        if name is not None:
            topics.check_name(name, what)
    return Target(broker, resolve, asked.node or node, asked.source or "", asked.model or "")


def _own(asked: Asked) -> tuple[MqttOptions, Resolve, str]:
    if asked.sink is not None:
        raise ConfigError(f"--sink {asked.sink}: is for a pipeline file; name the file too")
    return _broker(COMMAND_LINE, asked.broker), Path, ""


def _of_file(asked: Asked, path: Path) -> tuple[MqttOptions, Resolve, str]:
    document = Document.load(path)
    announced = document.as_type(Announced)
    name = asked.sink or _only(path, announced)
    if not isinstance(announced.sinks.get(name), MqttOptions):
        raise ConfigError(f"{path}: --sink {name}: is no mqtt sink; there are: {_listed(announced)}")
    others: dict[str, Any] = (
        {"brokers": []} if "host" in asked.broker else {}
    )  # they are not of the host that was named
    tree = merge(document.tree["sinks"][name], {**asked.broker, **others})
    return _broker(path, tree), document.resolve, announced.node


def _broker(path: Path, tree: dict[str, Any]) -> MqttOptions:
    if "password_file" in tree and "user" not in tree:  # before MqttOptions says it in a file's words
        raise ConfigError("--password-file needs --user")
    return Document(path, tree).as_type(MqttOptions)


def _check_root(asked: Asked) -> None:
    root = asked.broker.get("topic_root")
    if root is not None:
        try:
            topics.prefix(root, "node")
        except ConfigError as error:
            raise ConfigError(f"--root {root}: {error}") from error


def _only(path: Path, announced: Announced) -> str:
    names = _mqtt_sinks(announced)
    if not names:
        raise ConfigError(f"{path}: has no mqtt sink, so nothing of it can be heard from a broker")
    if len(names) > 1:
        raise ConfigError(f"{path}: has several mqtt sinks; choose with --sink: {_listed(announced)}")
    return names[0]


def _mqtt_sinks(announced: Announced) -> list[str]:
    return [name for name, sink in announced.sinks.items() if isinstance(sink, MqttOptions)]


def _listed(announced: Announced) -> str:
    return ", ".join(_mqtt_sinks(announced)) or "none"
