"""The gRPC front: it listens, and ends what takes too long."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import edgert
from edgert.serve.bodies import Bodies
from edgert.serve.connections import listen
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

SLOW_THREADS = 4  # for long requests and compressed ones
CONTROL_THREADS = 4  # for load and unload, which may take minutes


class GrpcFront:
    """Answers gRPC on an event loop. `counts` has the calls that failed, by status."""

    live: ClassVar[LiveCount] = LiveCount("grpc front")
    name: ClassVar[str] = "grpc"

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
        self._gate = gate or Gate(options.limits.requests, Bodies(options.limits))
        self._token = token
        self._server: asyncio.Server | None = None
        self._site: Site
        self._executor: ThreadPoolExecutor
        self._control: ThreadPoolExecutor

    async def start(self) -> str:
        """Listen, and return the address. Raises ConfigError if it cannot be had."""
        loop = asyncio.get_running_loop()
        context = self._tls()
        self._executor = ThreadPoolExecutor(SLOW_THREADS, "grpc")
        self._control = ThreadPoolExecutor(CONTROL_THREADS, "grpc control")
        self._site = Site(
            self._options.limits,
            self._service(loop).find,
            loop,
            self.counts,
            self._gate.bodies,
            self._executor,
        )
        place = self._options.grpc or GrpcOptions()
        self._server = await listen(
            self._accept,
            place.host,
            place.port,
            context,
            self._options.limits,
            key="serve.grpc",
        )
        self.live.opened()
        self._site.connections.watch()
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"grpc://[{host}]:{port}" if ":" in host else f"grpc://{host}:{port}"

    async def stop(self, timeout_s: float) -> None:
        """Let calls under way be answered for at most that long, then close. Allowed when not started."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await self._site.connections.end(timeout_s)
        for executor in (self._executor, self._control):
            executor.shutdown(wait=False, cancel_futures=True)
        self.live.closed()

    def _accept(self) -> Connection:
        connection = Connection(self._site)
        has_handshake = self._options.tls is not None
        return self._site.connections.admit(connection, self.counts, has_handshake=has_handshake)

    def _tls(self) -> ssl.SSLContext | None:
        if self._options.tls is None:
            return None
        context = tls_context(self._options.tls)
        context.set_alpn_protocols(["h2"])
        return context

    def _service(self, loop: asyncio.AbstractEventLoop) -> Service:
        core, regions, is_allowed = self._core, self._regions, self._is_control_allowed
        mailbox = Mailbox(loop)
        extensions = (*SERVER_EXTENSIONS, *(("system_shared_memory",) if regions is not None else ()))
        answerer = CallAnswerer(self._control, mailbox, is_control_allowed=is_allowed)
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
