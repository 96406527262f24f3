"""Shared memory: register, unregister and status."""

from __future__ import annotations

import msgspec

from edgert.errors import RequestError, UnknownModelError, UnsupportedError
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import Natural, read_json
from edgert.serve.http.message import Answer, json_answer
from edgert.serve.http.router import Route, Router
from edgert.serve.shared_memory import SharedMemory

_SYSTEM = "/v2/systemsharedmemory"
_CUDA = "/v2/cudasharedmemory"


class _Register(msgspec.Struct):
    key: str | None = None
    byte_size: Natural | None = None
    offset: Natural = 0


class RegionRoutes:
    """System shared memory. That of CUDA is not offered: it has no regions, and takes none."""

    def __init__(self, regions: SharedMemory | None) -> None:
        """`regions` is None where shared memory is off."""
        self._regions = regions

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        region = _SYSTEM + "/region/{name}"
        router.add(
            Route("GET", f"{_SYSTEM}/status", self.status, is_local=True),
            Route("GET", f"{region}/status", self.status, is_local=True),
            Route("POST", f"{_SYSTEM}/register", self.register, is_local=True),
            Route("POST", f"{region}/register", self.register, is_local=True),
            Route("POST", f"{_SYSTEM}/unregister", self.unregister, is_local=True),
            Route("POST", f"{region}/unregister", self.unregister, is_local=True),
            Route("GET", f"{_CUDA}/status", self.cuda_status),
            Route("GET", _CUDA + "/region/{name}/status", self.cuda_status),
            Route("POST", _CUDA + "/region/{name}/register", self.cuda_register),
            Route("POST", f"{_CUDA}/unregister", self.cuda_unregister),
            Route("POST", _CUDA + "/region/{name}/unregister", self.cuda_unregister),
        )

    def status(self, exchange: Exchange, name: str = "") -> None:
        """Answer which regions there are."""
        exchange.reply(json_answer(self._regions.status(name) if self._regions else []))

    def register(self, exchange: Exchange, name: str = "") -> None:
        """Make a region known."""
        if self._regions is None:
            raise UnsupportedError(
                "shared memory is off; set serve.shared_memory = true in the pipeline file"
            )
        asked = read_json(exchange.body, _Register)
        if asked.key is None or asked.byte_size is None:
            missing = "key" if asked.key is None else "byte_size"
            raise RequestError(f"Shared memory register request has no '{missing}' field")
        self._regions.register(name, asked.key, asked.offset, asked.byte_size)
        exchange.reply(Answer())

    def unregister(self, exchange: Exchange, name: str = "") -> None:
        """Forget one region or all."""
        if self._regions is not None:
            self._regions.unregister(name)
        exchange.reply(Answer())

    def cuda_status(self, exchange: Exchange, name: str = "") -> None:
        """Answer that there are no regions."""
        if name:
            raise UnknownModelError(f"Unable to find cuda shared memory region: '{name}'")
        exchange.reply(json_answer([]))

    def cuda_register(self, exchange: Exchange, name: str) -> None:
        """Refuse."""
        raise UnsupportedError(f"failed to register CUDA shared memory region '{name}': it is not offered")

    def cuda_unregister(self, exchange: Exchange, name: str = "") -> None:
        """Agree: clients unregister all before they begin."""
        exchange.reply(Answer())
