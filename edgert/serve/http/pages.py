"""Pages that other parts of edgert write, e.g. metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import Answer
from edgert.serve.http.router import Route, Router

Page = Callable[[], tuple[bytes, str]]  # body and content type; may take its time


def add_pages(router: Router, pages: Mapping[str, Page]) -> None:
    """Make pages known, by path."""
    for path, page in pages.items():
        router.add(Route("GET", path, functools.partial(_show, page), where="aside"))


def _show(page: Page, exchange: Exchange) -> None:
    body, content_type = page()
    exchange.reply(Answer(body=(body,), content_type=content_type))
