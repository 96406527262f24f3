"""Makes the next item while the one before it is at work: the cores wait for neither."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yield the items, each made on a thread of its own while the caller is at the one before.

    What making one raises comes in its place. At the end at most one has been made that nobody took.
    """
    with ThreadPoolExecutor(1, "ahead") as maker:
        yield _taken(maker, items)


def _taken(maker: ThreadPoolExecutor, items: Iterator[T]) -> Iterator[T]:
    end = object()
    coming = maker.submit(next, items, end)
    while (item := coming.result()) is not end:
        coming = maker.submit(next, items, end)
        yield item  # type: ignore[misc]
