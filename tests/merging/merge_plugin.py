"""Methods for tests of merging own models: each asks for, or does, one thing that bundled methods may not."""

import os
import time
from typing import ClassVar

from mergebench_core import MergingMethod, MethodInfo, Prepared, hookimpl
from mergebench_core.hyperparameters import Parameter


def info(name, **settings):
    return MethodInfo(name=name, title=name, paper_url="", **settings)


class Slow(MergingMethod):
    """The mean of the specialists; waits before every tensor while the file named by `flag` is there."""

    info = info("slow_mean")
    hyperparameters: ClassVar = {"flag": Parameter(default="none"), "weight": Parameter(default=1.0, low=0.0)}
    linear_in = "weight"

    def update(self, tensor, config, prepared):
        if tensor.offset == 0 and os.path.exists(config["flag"]):  # noqa: PTH110
            time.sleep(2.0)
        return sum(tensor.task_vectors) / len(tensor.task_vectors)


class Searching(MergingMethod):
    info = info("searching", depth="model", needs={"validation"})

    def merge(self, context, config):
        tensors = [(name, context.base.tensor(name)) for name in context.merged_names]
        context.validate(iter(tensors), None)
        yield from tensors


class Calibrated(MergingMethod):
    """Adds the number of characters in each domain's samples."""

    info = info("calibrated", needs={"calibration"})

    def prepare(self, context, config):
        domains = context.specialists.domains
        return Prepared(data={d: sum(len(row["prompt"]) for row in context.calibration(d, 100)) for d in domains})

    def update(self, tensor, config, prepared):
        return tensor.base * 0 + sum(prepared.data.values())


class MergesAll(MergingMethod):
    info = info("merges_all", base_roles=frozenset())

    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors) / len(tensor.task_vectors)


class Exploding(MergingMethod):
    info = info("exploding")

    def update(self, tensor, config, prepared):
        return tensor.base / 0


@hookimpl
def mergebench_register_methods(register):
    for method in (Slow(), Searching(), Calibrated(), MergesAll(), Exploding()):
        register(method)
