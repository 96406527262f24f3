"""The HTTP front: it listens, and ends what takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from edgert.serve.bodies import Bodies
from edgert.serve.connections import listen
from edgert.serve.core import InferenceCore
from edgert.serve.first_api.routes import FirstApiRoutes
from edgert.serve.gate import Gate
from edgert.serve.http.connection import Connection
from edgert.serve.http.control import ControlRoutes
from edgert.serve.http.describe import DescribeRoutes
from edgert.serve.http.door import Door
from edgert.serve.http.infer import InferRoutes
from edgert.serve.http.pages import Page, add_pages
from edgert.serve.http.regions import RegionRoutes
from edgert.serve.http.router import Router
from edgert.serve.http.settings import SettingRoutes
from edgert.serve.http.site import Site, Where
from edgert.serve.options import ServeOptions
from edgert.serve.shared_memory import SharedMemory
from edgert.serve.tls import tls_context
from edgert.stats import LiveCount, Tally

THREADS = 2  # for what may block, pages and long JSON; and as many that load and unload models


class HttpFront:
    """Answers HTTP on an event loop. `counts` has what was refused or given up, by reason.

    `router` may get further paths before `start`.
    """

    live: ClassVar[LiveCount] = LiveCount("http front")
    name: ClassVar[str] = "http"

    def __init__(
        self,
        host: str,
        port: int,
        core: InferenceCore,
        options: ServeOptions,
        control_allowed: bool,
        pages: Mapping[str, Page],
        *,
        regions: SharedMemory | None = None,
        gate: Gate | None = None,
        token: str = "",
    ) -> None:
        """`regions` is None where shared memory is off; `gate` is shared with the other fronts."""
        self.counts = Tally()
        self.router = Router()
        self._address = (host, port)
        self._options = options
        self._gate = gate or Gate(options.limits.requests, Bodies(options.limits))
        self._door = Door(self.router, token, is_control_allowed=control_allowed)
        if regions is not None:
            regions.bodies = self._gate.bodies
        self._server: asyncio.Server | None = None
        self._site: Site
        self._executors: dict[Where, ThreadPoolExecutor] = {}
        add_pages(self.router, pages)
        self._add_routes(core, regions)

    async def start(self) -> str:
        """Listen, and return the URL. Raises ConfigError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        context = tls_context(self._options.tls) if self._options.tls else None
        self._executors = {
            "aside": ThreadPoolExecutor(THREADS, "http"),
            "control": ThreadPoolExecutor(THREADS, "http:control"),
        }
        self._site = Site(
            self._options.limits,
            self._door.admit,
            gate=self._gate,
            executors=self._executors,
            loop=loop,
            counts=self.counts,
        )
        self._server = await listen(self._accept, *self._address, context, self._options.limits, key="http")
        self.live.opened()
        self._site.connections.watch()
        host, port = self._address[0], self._server.sockets[0].getsockname()[1]
        return f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self, timeout_s: float) -> None:
        """Let requests under way be answered for at most that long, then close all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await self._site.connections.end(timeout_s)
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        self.live.closed()

    def _accept(self) -> Connection:
        connection = Connection(self._site)
        has_handshake = self._options.tls is not None
        return self._site.connections.admit(connection, self.counts, has_handshake=has_handshake)

    def _add_routes(self, core: InferenceCore, regions: SharedMemory | None) -> None:
        DescribeRoutes(core, has_shared_memory=regions is not None).add_to(self.router)
        InferRoutes(core, regions).add_to(self.router)
        ControlRoutes(core).add_to(self.router)
        RegionRoutes(regions).add_to(self.router)
        SettingRoutes().add_to(self.router)
        FirstApiRoutes(core, regions).add_to(self.router)
