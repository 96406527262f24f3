"""Which job a path has."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from edgert.serve.http.message import RefusedError
from edgert.serve.http.site import Job, Later, Where

MAX_REMEMBERED = 1024  # paths
_PARTS = {"version": r"(?P<version>\d{1,18})"}


class Route(msgspec.Struct, frozen=True):
    """A job's place: `run` gets the exchange and what stands in the path's braces, by name."""

    method: str
    path: str  # /v2/models/{model}
    run: Callable[..., Later | None]
    where: Where = "here"  # does it run
    is_control: bool = False  # changes the server
    is_local: bool = False  # only for clients on this machine


class Found(msgspec.Struct, frozen=True):
    """A route and its job for one path."""

    route: Route
    job: Job


class Router:
    """Finds routes. Only the fronts' thread calls."""

    def __init__(self) -> None:
        self._paths: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        self._remembered: dict[tuple[str, str], Found] = {}

    def add(self, *routes: Route) -> None:
        """Make routes known. Of two that fit a path the first is taken."""
        for route in routes:
            pattern = re.compile(re.sub(r"\{(\w+)\}", _part, route.path))
            known = next((methods for path, methods in self._paths if path.pattern == pattern.pattern), None)
            if known is None:
                self._paths.append((pattern, {route.method: route}))
            else:
                known[route.method] = route

    def find(self, method: str, path: str) -> Found:
        """Return what answers a request; HEAD is answered as GET is.

        Raises:
            RefusedError: there is no such path (404), or not with this method (405).
        """
        key = ("GET" if method == "HEAD" else method, path)
        found = self._remembered.get(key)
        if found is None:
            found = self._search(*key)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _search(self, method: str, path: str) -> Found:
        for pattern, methods in self._paths:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            route = methods.get(method)
            if route is None:
                raise RefusedError(405, "wrong_method", "Method Not Allowed")
            names = {name: _value(name, text) for name, text in match.groupdict().items()}
            return Found(route, Job(functools.partial(route.run, **names), route.where))
        raise RefusedError(404, "unknown_path", "Not Found")


def _part(match: re.Match[str]) -> str:
    return _PARTS.get(match[1], rf"(?P<{match[1]}>[^/]+)")


def _value(name: str, text: str) -> Any:
    return (int(text) or -1) if name == "version" else unquote(text)  # there is no version 0
