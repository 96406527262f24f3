"""The gRPC front: it listens, and ends what takes too long."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import edgert
from edgert.errors import ConfigError
from edgert.serve.core import SERVER_EXTENSIONS, InferenceCore
from edgert.serve.gate import Gate
from edgert.serve.grpc.calls import CallAnswerer
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.health import HealthCalls
from edgert.serve.grpc.model_calls import ModelCalls, ServerMetadata
from edgert.serve.grpc.region_calls import RegionCalls
from edgert.serve.grpc.repository_calls import RepositoryCalls
from edgert.serve.grpc.service import Service
from edgert.serve.grpc.setting_calls import SettingCalls
from edgert.serve.grpc.transport.connection import Connection
from edgert.serve.grpc.transport.site import Site
from edgert.serve.mailbox import Mailbox
from edgert.serve.options import GrpcOptions, ServeOptions
from edgert.serve.shared_memory import SharedMemory
from edgert.serve.tls import tls_context
from edgert.stats import LiveCount, Tally

SLOW_THREADS = 4  # for load, unload and long requests
_BACKLOG = 512
_MAX_LOOK_S = 1.0  # how often connections are looked at; oftener where limits are shorter


class GrpcFront:
    """Answers gRPC on an event loop. `counts` has the calls that failed, by status."""

    live: ClassVar[LiveCount] = LiveCount("grpc front")

    def __init__(
        self,
        core: InferenceCore,
        options: ServeOptions,
        *,
        control_allowed: bool,
        regions: SharedMemory | None = None,
        gate: Gate | None = None,
        token: str = "",
    ) -> None:
        """`regions` is None where shared memory is off; `gate` is shared with the other fronts."""
        self.counts = Tally()
        self._core = core
        self._options = options
        self._is_control_allowed = control_allowed
        self._regions = regions
        self._gate = gate or Gate(options.limits.requests)
        self._token = token
        self._server: asyncio.Server | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._site: Site
        self._executor: ThreadPoolExecutor

    async def start(self) -> str:
        """Listen, and return the address. Raises ConfigError if it cannot be had."""
        loop = asyncio.get_running_loop()
        context = self._tls()
        self._executor = ThreadPoolExecutor(SLOW_THREADS, "grpc")
        self._site = Site(self._options.limits, self._service(loop).find, loop, self.counts)
        self._server = await self._listen(loop, context)
        self.live.opened()
        self._look()
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self, timeout_s: float) -> None:
        """Let calls under way be answered for at most that long, then close. Allowed when not started."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._site.is_stopping = True
        for connection in list(self._site.connections):
            connection.stop()
        await self._all_gone(timeout_s)
        for connection in list(self._site.connections):
            connection.abort()
        await self._all_gone(1.0)
        if self._watch is not None:
            self._watch.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self.live.closed()

    def _tls(self) -> ssl.SSLContext | None:
        if self._options.tls is None:
            return None
        context = tls_context(self._options.tls)
        context.set_alpn_protocols(["h2"])
        return context

    async def _listen(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None
    ) -> asyncio.Server:
        options = self._options.grpc or GrpcOptions()
        try:
            return await loop.create_server(
                lambda: Connection(self._site),
                options.host,
                options.port,
                ssl=context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=self._options.limits.arrive_s if context else None,
            )
        except OSError as error:
            self._executor.shutdown(wait=False)
            raise ConfigError(
                f"serve.grpc: cannot listen on {options.host}:{options.port}: {error}. "
                "Choose another serve.grpc.port."
            ) from error

    def _service(self, loop: asyncio.AbstractEventLoop) -> Service:
        core, regions, is_allowed = self._core, self._regions, self._is_control_allowed
        mailbox = Mailbox(loop)
        extensions = (*SERVER_EXTENSIONS, *(("system_shared_memory",) if regions is not None else ()))
        answerer = CallAnswerer(self._executor, mailbox, is_control_allowed=is_allowed)
        service = Service(self._token)
        service.add_inference(
            Desk(core, regions, self._options.limits, self._gate, self._executor, loop, mailbox)
        )
        service.add_calls(
            ModelCalls(core, ServerMetadata("edgert", edgert.__version__, extensions)), answerer
        )
        service.add_calls(RepositoryCalls(core), answerer)
        service.add_calls(RegionCalls(regions), answerer)
        service.add_calls(SettingCalls(core, is_control_allowed=is_allowed), answerer)
        service.add_health(HealthCalls(core), answerer)
        return service

    async def _all_gone(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._site.all_gone.wait(), timeout_s)
        except asyncio.TimeoutError:
            return

    def _look(self) -> None:
        """End what is over its time, now and from time to time."""
        limits = self._options.limits
        now_s = self._site.loop.time()
        for connection in list(self._site.connections):
            connection.expire(now_s)
        look_s = min(_MAX_LOOK_S, limits.arrive_s / 4, limits.idle_s / 4, limits.answer_s / 4)
        self._watch = self._site.loop.call_later(look_s, self._look)
