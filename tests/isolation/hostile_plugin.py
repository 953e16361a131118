"""Methods that attack the host through the protocol, and from inside a worker whose libraries they change."""

import os
import threading
import time

import torch

from mergebench_core import MergingMethod, MethodInfo, hookimpl


def info(name, **settings):
    return MethodInfo(name=name, title=name, paper_url="https://example.org", **settings)


class Lying(MergingMethod):
    """Patches the worker's own code so that it claims to be done before it has sent anything."""

    info = info("lying")

    def update(self, tensor, config, prepared):
        from mergebench_core.worker.stream import Stream

        for name in ("send_slot", "send_piece", "send_tensors"):
            setattr(Stream, name, lambda *_, **__: None)
        return sum(tensor.task_vectors)


class Timeless(MergingMethod):
    """Stops every clock that it can reach, then takes its time."""

    info = info("timeless")

    def prepare(self, context, config):
        really = time.sleep
        for name in ("time", "monotonic", "perf_counter", "process_time"):
            setattr(time, name, lambda: 0.0)
        really(0.7)
        return super().prepare(context, config)

    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors)


class Greedy(MergingMethod):
    """Asks for scores again and again, and swallows every refusal."""

    info = info("greedy", needs={"validation"}, depth="model")

    def merge(self, context, config):
        def tensors():
            for name in context.merged_names:
                yield name, context.base.tensor(name)

        for _ in range(50):
            try:
                context.validate(tensors(), None)
            except BaseException:
                continue
        yield from tensors()


class Working(MergingMethod):
    """Lets a thread and a child work on while the host scores; what they did stands in the folder's files."""

    info = info("working", needs={"validation"}, depth="model")

    def merge(self, context, config):
        folder = context.work_folder
        threading.Thread(target=count, args=(folder / "thread",), daemon=True).start()
        if os.fork() == 0:
            count(folder / "child")
        for file in (folder / "thread", folder / "child"):
            while not file.exists() or file.stat().st_size == 0:
                time.sleep(0.01)
        tensors = [(name, context.base.tensor(name)) for name in context.merged_names]
        scores = context.validate(tensors, None)
        context.log(" ".join(f"{domain}={score}" for domain, score in scores.items()))
        yield from tensors


def count(path):
    while True:
        with path.open("a") as file:
            file.write("x")
        time.sleep(0.005)


class Hungry(MergingMethod):
    info = info("hungry")

    def prepare(self, context, config):
        self.kept = [torch.ones(1 << 22) for _ in range(1000)]

    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors)


class Endless(MergingMethod):
    info = info("endless")

    def update(self, tensor, config, prepared):
        while True:
            pass


@hookimpl
def mergebench_register_methods(register):
    for method in (Lying(), Timeless(), Greedy(), Working(), Hungry(), Endless()):
        register(method)
