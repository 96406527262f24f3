"""The process around a pipeline file: it starts lines, serves, reloads, drains, stops, and tells systemd.

`service` has the signals and what follows from them; `line` is one file at work, `announcements` what
subscribers hear of it, `reload` what becomes of SIGHUP; `notify` is systemd's protocol, `supervisor` what is
said in it, `status` in which words.
"""

from edgert.service.service import Service

__all__ = ["Service"]
