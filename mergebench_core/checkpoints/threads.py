"""Threads over chunks of weights: reading, kernels and torch operations all release the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], num_threads: int) -> Iterator[Result]:
    """Yield `function(item)` for every item in order, computed by `num_threads` threads a little ahead.

    torch itself uses one thread meanwhile: its own threads would wait for these.
    """
    if num_threads == 1:
        yield from map(function, items)
        return
    with _one_torch_thread(), ThreadPoolExecutor(num_threads, "chunks", _use_one_thread) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
