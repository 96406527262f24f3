"""Makes the sinks that a pipeline file names. What a kind needs is imported only if it is configured."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgert.errors import ConfigError
from edgert.publish import topics
from edgert.publish.lines import LinesSink, check_path
from edgert.publish.options import LinesOptions, MqttOptions, Resolve, SinkOptions, TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.sink import Sink, Tap
from edgert.stats import CopyCounts


def open_sink(
    name: str, options: MqttOptions | LinesOptions, node: str, boot: str, resolve: Resolve = Path
) -> Sink:
    """Return a sink that is open. The caller closes it.

    Args:
        name: The table's name in the pipeline file, for logs and statistics.
        options: What to open.
        node: The node's name in topics and payloads.
        boot: Id of this start of the process.
        resolve: Makes a path of the pipeline file relative to that file.

    Raises:
        ConfigError: a name cannot be part of a topic, or a file cannot be used.
    """
    check_sink(name, options, resolve)
    encoder = ResultEncoder(node, boot)
    sink: Sink
    if isinstance(options, LinesOptions):
        sink = LinesSink(name, options, encoder, resolve)
    else:
        sink = _mqtt_sink(name, options, node, encoder, resolve)
    sink.open()
    return sink


def check_sink(name: str, options: SinkOptions, resolve: Resolve = Path) -> None:
    """See that the files which a sink names can be used. Reads some; opens no sink and makes no file.

    Raises:
        ConfigError: a file cannot be used; the message names sink, key and file.
    """
    try:
        if isinstance(options, MqttOptions):
            _check_files(options, resolve)
        elif isinstance(options, LinesOptions) and options.path is not None:
            check_path(options.path, resolve)
    except ConfigError as error:
        raise ConfigError(f"Sink {name}: {error}") from error


def open_tap(name: str, options: TapOptions, node: str, boot: str, copies: CopyCounts | None = None) -> Tap:
    """Return a tap that is open; `copies` counts its copies of pixels. The caller closes it.

    Raises:
        ConfigError: the endpoint cannot be used.
    """
    from edgert.publish.tap import ZmqTap

    tap = ZmqTap(name, options, ResultEncoder(node, boot), copies)
    tap.open()
    return tap


def _mqtt_sink(name: str, options: MqttOptions, node: str, encoder: ResultEncoder, resolve: Resolve) -> Sink:
    from edgert.publish import client_id
    from edgert.publish.mqtt import PahoSession
    from edgert.publish.mqtt_sink import MqttSink

    prefix = topics.prefix(options.topic_root, node)
    identity = options.client_id or client_id.default_client_id(node, name, client_id.machine_id())
    open_session = partial(
        PahoSession, options, client_id=identity, will_topic=prefix + topics.STATE, resolve=resolve
    )
    return MqttSink(name, options, prefix, encoder, open_session)


def _check_files(options: MqttOptions, resolve: Resolve) -> None:
    """Read what every connect will read, so that a wrong file is an error now and not a retry for ever."""
    from edgert.publish.credentials import read_secret, tls_context

    if options.password_file is not None:
        read_secret(options.password_file, resolve)
    if options.tls is not None:
        tls_context(options.tls, resolve)
