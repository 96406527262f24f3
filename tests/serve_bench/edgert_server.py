"""edgert as a person starts it: `edgert run` on a pipeline file that serves a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.serve_bench.places import HOST
from tests.serve_bench.server import Server

_FILE = """\
node = "bench"
store = "{store}"

[http]
host = "{host}"
port = {http_port}
control = true

[serve]
{serve}

[serve.grpc]
host = "{host}"
port = {grpc_port}

[service]
log_level = "{log_level}"
"""
EXPLICIT = 'mode = "explicit"\nload = ["*"]'


class EdgertServer(Server):
    """Serves a store."""

    title = "edgert"

    def __init__(
        self, folder: Path, store: Path, *, serve: str = EXPLICIT, log_level: str = "warning"
    ) -> None:
        """`serve` is the table `[serve]`."""
        super().__init__(folder)
        self._store = store
        self._serve = serve
        self._log_level = log_level

    def command(self) -> Sequence[str]:
        """Write the pipeline file, and return what runs it."""
        file = self.folder / "bench.toml"
        file.write_text(
            _FILE.format(
                store=self._store,
                host=HOST,
                http_port=self.http_port,
                grpc_port=self.grpc_port,
                serve=self._serve,
                log_level=self._log_level,
            )
        )
        return [sys.executable, "-m", "edgert.cli", "run", str(file)]
