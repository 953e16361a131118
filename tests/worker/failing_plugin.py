"""Methods for tests of the worker: one for each thing a method may get wrong."""

import os
import signal

import torch

from mergebench_core import MergingMethod, MethodInfo, Prepared, hookimpl


def info(name, **others):
    return MethodInfo(name=name, title=name, paper_url="", **others)


class NoSuchLabel(MergingMethod):
    info = info("no_such_label")

    def update(self, tensor, config, prepared):
        return prepared.tensor("mask")


class Raises(MergingMethod):
    info = info("raises")

    def update(self, tensor, config, prepared):
        raise ValueError("something\nis wrong with " + tensor.name)


class Verbose(MergingMethod):
    info = info("verbose")

    def update(self, tensor, config, prepared):
        raise RuntimeError("x" * 3_000_000)


class WrongShape(MergingMethod):
    info = info("wrong_shape")

    def update(self, tensor, config, prepared):
        return tensor.base[:-1]


class WrongDtype(MergingMethod):
    info = info("wrong_dtype")

    def update(self, tensor, config, prepared):
        return tensor.base.double()


class WrongFinalDtype(MergingMethod):
    info = info("wrong_final_dtype")

    def merge_tensor(self, tensor, config, prepared):
        return tensor.base


class NoTensor(MergingMethod):
    info = info("no_tensor")

    def update(self, tensor, config, prepared):
        return 0


class WrongPrepare(MergingMethod):
    info = info("wrong_prepare")

    def prepare(self, context, config):
        return {"threshold": 1}

    def update(self, tensor, config, prepared):
        return tensor.base


class OddPrepare(WrongPrepare):
    info = info("odd_prepare")

    def prepare(self, context, config):
        return Prepared(data={"threshold": torch.ones(1)})


class UnknownTensor(MergingMethod):
    info = info("unknown_tensor", depth="model")

    def merge(self, context, config):
        yield "model.connection.weight", torch.ones(2)


class HeadToo(MergingMethod):
    info = info("head_too", depth="model")

    def merge(self, context, config):
        yield "lm_head.weight", context.base.tensor("lm_head.weight")


class Half(MergingMethod):
    info = info("half", depth="model")

    def merge(self, context, config):
        yield "model.norm.weight", context.base.tensor("model.norm.weight")


class Dies(MergingMethod):
    info = info("dies")

    def update(self, tensor, config, prepared):
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(MergingMethod):
    info = info("exits")

    def update(self, tensor, config, prepared):
        raise SystemExit(7)


METHODS = [
    found
    for found in list(globals().values())
    if isinstance(found, type) and issubclass(found, MergingMethod) and found is not MergingMethod
]


@hookimpl
def mergebench_register_methods(register):
    for method in METHODS:
        register(method())
