"""Where jobs run: local processes, side by side."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

from mergebench_core.workbench import Progress

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_messages: Any = None


def map_processes(
    function: Callable[[Item, Progress], Outcome],
    items: Sequence[Item],
    *,
    num_processes: int,
    progress: Progress,
) -> list[Outcome]:
    """Apply `function` to every item in processes of their own, and show their progress as it comes.

    Args:
        function: a module-level function of an item and a progress callback.
        items: plain values.
        num_processes: how many at a time.
        progress: called here with the lines of all processes.

    Raises:
        the first error of any item, when all are done.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    with ProcessPoolExecutor(
        max_workers=num_processes, mp_context=context, initializer=_start, initargs=(messages,)
    ) as pool:
        futures = [pool.submit(_call, function, item) for item in items]
        try:
            _relay(futures, messages, progress)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _relay(futures: Sequence[Future[Any]], messages: Any, progress: Progress) -> None:
    is_done = False
    while True:
        try:
            progress(messages.get(timeout=0.2))
        except queue.Empty:
            if is_done:
                return
            is_done = not wait(futures, timeout=0).not_done


def _start(messages: Any) -> None:
    global _messages
    _messages = messages
    os.environ["OMP_NUM_THREADS"] = "1"


def _call(function: Callable[[Item, Progress], Outcome], item: Item) -> Outcome:
    return function(item, _messages.put)
