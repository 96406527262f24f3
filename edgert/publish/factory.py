"""Makes the sinks that a pipeline file names. What a kind needs is imported only if it is configured."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgert import __version__
from edgert.errors import ConfigError
from edgert.publish import topics
from edgert.publish.dialect import Dialect, NativeDialect
from edgert.publish.encoder import Encoder
from edgert.publish.encodings import make_encoder
from edgert.publish.filtered import FilteredSink
from edgert.publish.filters import ResultFilter
from edgert.publish.home_assistant import HomeAssistantOptions
from edgert.publish.lines import LinesSink, check_path
from edgert.publish.options import LinesOptions, MqttOptions, Resolve, SinkOptions, SpoolOptions, TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.sink import Sink, Tap
from edgert.stats import CopyCounts

if TYPE_CHECKING:
    from edgert.publish.picture_tap import PictureTap
    from edgert.publish.spool import Spool

log = logging.getLogger(__name__)


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
    check_sink(name, options, resolve, node)
    encoder = make_encoder(options.encoding, node, boot)
    sink: Sink
    if isinstance(options, LinesOptions):
        sink = LinesSink(name, options, encoder, resolve)
    else:
        sink = _mqtt_sink(name, options, node, boot, resolve, encoder)
    if options.filter is not None:
        sink = FilteredSink(sink, ResultFilter(options.filter))
    sink.open()
    return sink


def check_sink(name: str, options: SinkOptions, resolve: Resolve = Path, node: str = "node") -> None:
    """See that the files which a sink names can be used. Reads some; opens no sink and makes no file.

    Raises:
        ConfigError: a file cannot be used; the message names sink, key and file.
    """
    try:
        if isinstance(options, MqttOptions):
            _check_files(options, resolve)
            _check_spool(name, options, resolve, node)
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


def open_pictures(
    name: str, options: SinkOptions, node: str, sink: Sink, *, takes_orders: bool = False
) -> PictureTap | None:
    """Return a tap that publishes pictures through an MQTT sink.

    Its options may want them now and then. Else, if it `takes_orders`, there is one of each frame that is
    asked for; Sparkplug has no place for any.
    """
    if not isinstance(options, MqttOptions) or options.sparkplug is not None or sink.announcer is None:
        return None
    wanted = options.home_assistant or HomeAssistantOptions(camera=False)
    if not wanted.camera and not takes_orders:
        return None
    from edgert.publish.picture_tap import PictureTap
    from edgert.publish.snapshot import Snapshots

    snapshots = Snapshots(wanted, only_asked=not wanted.camera)
    prefix = topics.prefix(options.topic_root, node)
    return PictureTap(f"{name}.pictures", prefix, snapshots, sink.announcer)


def _mqtt_sink(
    name: str, options: MqttOptions, node: str, boot: str, resolve: Resolve, encoder: Encoder
) -> Sink:
    from edgert.publish import client_id
    from edgert.publish.mqtt import PahoSession
    from edgert.publish.mqtt_sink import MqttSink

    prefix = topics.prefix(options.topic_root, node)
    identity = options.client_id or client_id.default_client_id(node, name, client_id.machine_id())
    open_session = partial(PahoSession, options, client_id=identity, resolve=resolve)
    dialect = _dialect(options, node, prefix, encoder)
    spool = None if options.spool is None else _spool(name, options.spool, node, boot, resolve)
    return MqttSink(name, options, prefix, dialect, open_session, spool)


def _dialect(options: MqttOptions, node: str, prefix: str, encoder: Encoder) -> Dialect:
    if options.sparkplug is not None:
        from edgert.publish.sparkplug import SparkplugDialect

        own = options.sparkplug
        return SparkplugDialect(own.group, own.node or node, encoder, {"edgert": __version__})
    if options.home_assistant is not None:
        from edgert.publish.announcement import Announcement, HomeAssistantDialect

        announcement = Announcement(node, prefix, options.home_assistant, __version__)
        return HomeAssistantDialect(prefix, encoder, options.expiry_s, announcement)
    return NativeDialect(prefix, encoder, options.expiry_s)


def _spool(name: str, options: SpoolOptions, node: str, boot: str, resolve: Resolve) -> Spool:
    from edgert.publish.spool import Spool
    from edgert.publish.spool_file import SpoolFile
    from edgert.publish.spool_place import spool_path

    path = spool_path(options, node, name, resolve)
    if options.path is None:
        _tell_of_others(name, path, node)
    return Spool(name, SpoolFile(path, options.max_mb * 1_000_000), options, boot)


def _tell_of_others(name: str, path: Path, node: str) -> None:
    from edgert.publish.spool_place import left_behind

    for other, size_bytes in left_behind(path, node):
        text = (
            "Sink %s: %s (%d kB) has results of a node with another name, and no process uses it. To have "
            "them published, move it and its -wal file, while this node is stopped, to %s; or delete it"
        )
        log.warning(text, name, other, size_bytes // 1000, path)


def _check_spool(name: str, options: MqttOptions, resolve: Resolve, node: str) -> None:
    if options.spool is not None:
        from edgert.publish.spool_place import check_place, spool_path

        check_place(spool_path(options.spool, node, name, resolve))


def _check_files(options: MqttOptions, resolve: Resolve) -> None:
    """Read what every connect will read, so that a wrong file is an error now and not a retry for ever."""
    from edgert.publish.credentials import read_secret, tls_context

    if options.password_file is not None:
        read_secret(options.password_file, resolve)
    if options.tls is not None:
        tls_context(options.tls, resolve)
