"""Writes the demo's example: a pipeline file with all that it names beside it."""

from __future__ import annotations

from pathlib import Path

from edgert.demo.material import Material
from edgert.demo.store import place, write_store

NODE = "demo"

_STREET = """
[sources.street]
uri = "file:{clips}/street.mp4"
loop = true
policy = "latest"
models = ["coco"]
"""
_PIPELINE = """\
# Written by `edgert demo`. Run it: edgert run {file}
node = "{node}"
store = "store"
{street_table}
[sources.driver]
uri = "file:{clips}/driver.mp4"
loop = true
policy = "latest"
models = ["face"]

[sources.requests]              # pictures of other programs, see edgert.client
uri = "router+bind:tcp://127.0.0.1:5601"
models = ["classify"]

[sinks.lines]                   # one JSON line a result on standard output
type = "lines"

# [sinks.broker]                # over MQTT, where a broker listens
# type = "mqtt"
# host = "127.0.0.1"
# qos = 1
"""


def write_example(folder: Path, material: Material, *, has_links: bool) -> Path:
    """Write store, clips, pictures and pipeline file into `folder`; return the last.

    With `has_links` models and media are links into the cache where that is possible, and not to be changed.
    """
    write_store(folder / "store", material, has_links=has_links)
    media = {"clips/street.mp4": material.street_clip, "clips/driver.mp4": material.driver_clip}
    media |= {f"pictures/{picture.name}": picture for picture in material.pictures}
    for name, source in media.items():
        place(source, folder / name, has_links=has_links)
    file = folder / "demo.toml"
    clips = (folder / "clips").resolve()
    street = _STREET.format(clips=clips) if material.coco else ""
    text = _PIPELINE.format(file=file.name, node=NODE, street_table=street, clips=clips)
    file.write_text(text, "utf-8")
    return file
