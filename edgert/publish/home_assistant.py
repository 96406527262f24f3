"""Home Assistant's MQTT discovery: one retained message makes the node a device with entities.

What may stand in it: Home Assistant's documentation of its MQTT integration, "Device discovery payload".
The entities read the topics of `topics` with templates, and the results as native JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgert.config import Options
from edgert.errors import ConfigError
from edgert.publish import topics

Component = dict[str, Any]
Components = dict[str, Component]  # by an id that is unique within the device

SEPARATOR = "_-"  # between the names of an id; `escaped` never gives it
NODE_STATES = ["init", "ready", "draining", "disconnected", "lost"]

# A template that gives nothing leaves a number as it is: results without detections, or late ones, do.
_COUNT = (
    "{{% if value_json is defined and value_json.detections is defined and not value_json.historical %}}"
    "{{{{ value_json.detections | selectattr('label', 'equalto', {label}) | list | count }}}}"
    "{{% endif %}}"
)
_NODE_AVAILABILITY = "{{ 'online' if value == 'ready' else 'offline' }}"
_IS_ONLINE = "{{{{ '{yes}' if value_json is defined and value_json.state == 'online' else '{no}' }}}}"
# `state` itself cannot be an attribute: Home Assistant keeps that name.
_SOURCE_ATTRIBUTES = (
    "{% if value_json is defined and value_json.state is defined %}"
    "{{ {'status': value_json.state, 'reason': value_json.reason | default('')} | tojson }}"
    "{% else %}{}{% endif %}"
)


class HomeAssistantOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.home_assistant]`: its presence announces the node to Home Assistant."""

    discovery_prefix: str = "homeassistant"  # as set in Home Assistant
    status_topic: str = "homeassistant/status"  # where it says `online`; as set in Home Assistant
    labels: tuple[str, ...] | None = None  # whose detections get a sensor that counts; None: all labels
    max_labels: Annotated[int, Meta(ge=1, le=1000)] = 20  # of one model, where `labels` names none
    camera: bool = True  # pictures of each source
    snapshot_s: Annotated[float, Meta(gt=0, le=86_400)] = 10.0  # at most one of a source in so many seconds
    snapshot_quality: Annotated[int, Meta(ge=1, le=100)] = 80  # JPEG's
    snapshot_max_side_px: Annotated[int, Meta(ge=16, le=8192)] = 640

    def __post_init__(self) -> None:
        for key in ("discovery_prefix", "status_topic"):
            try:
                topics.prefix(getattr(self, key), "node")
            except ConfigError as error:
                raise ValueError(f"{key}: {error}") from None


def discovery(
    node: str,
    prefix: str,
    sources: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
    options: HomeAssistantOptions,
    version: str,
) -> tuple[str, bytes]:
    """Return topic and payload of the message that announces all of a node, to be retained.

    Args:
        node: Its name, which becomes the device's.
        prefix: `<root>/<node>/`, where the node's topics begin.
        sources: The models that each source feeds.
        labels: The labels of each model, by class index.
        options: What to announce.
        version: edgert's.
    """
    entities = components(node, prefix, sources, labels, options)
    return config_topic(node, prefix, options), payload(node, prefix, entities, version)


def removal(node: str, prefix: str, options: HomeAssistantOptions) -> tuple[str, bytes]:
    """Return topic and payload of the message that makes Home Assistant forget the node, to be retained."""
    return config_topic(node, prefix, options), b""


def config_topic(node: str, prefix: str, options: HomeAssistantOptions) -> str:
    """Return where the node is announced."""
    return f"{options.discovery_prefix}/device/{device_id(node, prefix)}/config"


def device_id(node: str, prefix: str) -> str:
    """Return `edgert_<node>`, or with the topic root where that is not `edgert`, escaped."""
    is_usual = prefix == f"edgert/{node}/"
    return "edgert_" + _joined(*([node] if is_usual else prefix.rstrip("/").split("/")))


def escaped(name: str) -> str:
    """Return `name` in letters, digits, `_` and `-`: a word that no other name gives."""
    return re.sub(rb"[^a-zA-Z0-9-]", _escape_byte, name.encode()).decode("ascii")


def counted_labels(labels: Sequence[str], options: HomeAssistantOptions) -> list[str]:
    """Return the labels of a model that get a sensor. A model without labels may have any."""
    if options.labels is None:
        return list(dict.fromkeys(labels))[: options.max_labels]
    return [label for label in dict.fromkeys(options.labels) if not labels or label in labels]


def components(
    node: str,
    prefix: str,
    sources: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
    options: HomeAssistantOptions,
) -> Components:
    """Return what the device consists of; the ids are the same after every start."""
    found = {"state": _node_state(prefix)}
    for source, models in sources.items():
        found[_joined("online", source)] = _connectivity(prefix, source)
        if options.camera:
            found[_joined("snapshot", source)] = _image(prefix, source)
        for model in models:
            topic = prefix + topics.result(source, model)
            what = f"{source} {model}" if len(models) > 1 else source
            for label in counted_labels(labels.get(model, ()), options):
                count = _count(topic, f"{what} {label}", label)
                found[_joined("count", source, model, label)] = {**count, **_while_online(prefix, source)}
    device = device_id(node, prefix)
    return {key: {**entity, "unique_id": f"{device}{SEPARATOR}{key}"} for key, entity in found.items()}


def payload(node: str, prefix: str, entities: Components, version: str) -> bytes:
    """Return the description of the device. What stands there with only its platform is removed."""
    config = {
        "device": {
            "identifiers": [device_id(node, prefix)],
            "name": node,
            "model": "edgert",
            "sw_version": version,
        },
        "origin": {"name": "edgert", "sw_version": version},
        "availability": [_node_availability(prefix)],
        "components": entities,
    }
    return msgspec.json.encode(config)


def _node_state(prefix: str) -> Component:
    """Return the sensor of the node's state, which is available in every state."""
    return {
        "platform": "sensor",
        "name": "State",
        "device_class": "enum",
        "options": NODE_STATES,
        "entity_category": "diagnostic",
        "state_topic": prefix + topics.STATE,
        "availability": [],
    }


def _connectivity(prefix: str, source: str) -> Component:
    topic = prefix + topics.source_state(source)
    return {
        "platform": "binary_sensor",
        "name": source,
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topic,
        "value_template": _IS_ONLINE.format(yes="ON", no="OFF"),
        "json_attributes_topic": topic,
        "json_attributes_template": _SOURCE_ATTRIBUTES,
    }


def _image(prefix: str, source: str) -> Component:
    return {
        "platform": "image",
        "name": source,
        "image_topic": prefix + topics.snapshot(source),
        "content_type": "image/jpeg",
    }


def _count(topic: str, name: str, label: str) -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "state_class": "measurement",
        "state_topic": topic,
        "value_template": _COUNT.format(label=_literal(label)),
    }


def _while_online(prefix: str, source: str) -> Component:
    """Return what makes an entity unavailable while its source gives no frames: the last count is stale."""
    template = _IS_ONLINE.format(yes="online", no="offline")
    of_source = {"topic": prefix + topics.source_state(source), "value_template": template}
    return {"availability": [_node_availability(prefix), of_source], "availability_mode": "all"}


def _node_availability(prefix: str) -> Component:
    return {"topic": prefix + topics.STATE, "value_template": _NODE_AVAILABILITY}


def _literal(text: str) -> str:
    """Return `text` as a string of a template, with nothing in it that a template could take for its end."""
    return "'" + re.sub(r"[^a-zA-Z0-9 ]", lambda found: f"\\U{ord(found[0]):08x}", text) + "'"


def _joined(*names: str) -> str:
    return SEPARATOR.join(map(escaped, names))


def _escape_byte(found: re.Match[bytes]) -> bytes:
    return b"__" if found[0] == b"_" else b"_%02x" % found[0][0]
