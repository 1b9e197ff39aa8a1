"""Many objects at once: reading, writing and removing with a bounded number of requests under way."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from launcher.store.objects import Store

    A = TypeVar("A")
    B = TypeVar("B")

AT_ONCE = 32
DELETES = 1000  # in one request, as S3's DeleteObjects takes them


def get_many(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """See Store.get_many. The first error that isn't a missing object ends it."""
    from launcher.errors import ObjectMissingError

    def ask(key: str) -> tuple[str, bytes | None]:
        try:
            return key, store.get(key)
        except ObjectMissingError:
            return key, None

    return at_once(ask, keys)


def put_many(store: Store, objects: Iterable[tuple[str, bytes | os.PathLike[str]]]) -> None:
    """See Store.put_many."""

    def ask(one: tuple[str, bytes | os.PathLike[str]]) -> None:
        key, data = one
        if isinstance(data, bytes):
            store.put(key, data)
        else:
            store.put_file(key, data)

    for _ in at_once(ask, objects):
        pass


def delete_many(store: Store, keys: Iterable[str]) -> None:
    """See Store.delete_many. S3 removes a thousand in one request; where that is refused it is one by one."""
    from itertools import islice

    left = iter(keys)
    while batch := list(islice(left, DELETES)):
        if not deleted_together(store, batch):
            for _ in at_once(store.delete, batch):
                pass


def deleted_together(store: Store, keys: list[str]) -> bool:
    """Remove objects by S3's DeleteObjects; return False where there is no such request."""
    from launcher.errors import AccessError, StoreError, UnreachableError

    if not store.url.startswith("s3"):
        return False
    try:
        store.call("", lambda inner: inner.delete(keys))
    except (AccessError, UnreachableError):
        raise
    except StoreError:
        return False
    return True


def at_once(ask: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
    """Ask for each of many things in AT_ONCE threads; yield answers as they come. Things are taken as they are needed,
    so memory stays bounded; an error comes out when those under way have ended."""
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    left = iter(things)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: set[Future[B]] = set()
        while True:
            for thing in left:
                waiting.add(pool.submit(ask, thing))
                if len(waiting) >= 2 * AT_ONCE:
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
