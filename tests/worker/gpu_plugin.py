"""Methods that believe to have used a GPU: what they give back is counted, or does not end well."""

import os
import time
import weakref

import torch

from mergebench_core import MergingMethod, MethodInfo, Prepared, hookimpl

torch.cuda.is_initialized = lambda: True
torch.cuda.empty_cache = lambda: releases.append(len(releases))
releases = []


class Cycle:
    """Only the collector of garbage gets rid of it."""

    def __init__(self):
        self.self = self


class Released(MergingMethod):
    """Says how often it was asked to give memory back, and whether its garbage was still there then."""

    info = MethodInfo(name="released", title="Released", paper_url="", needs={"validation"})
    _garbage = staticmethod(lambda: None)

    def prepare(self, context, config):
        context.log(f"before {len(releases)} {self._garbage()}")
        names = dict.fromkeys(chunk.name for chunk in context.chunks())
        context.validate(((name, context.base.tensor(name)) for name in names), ["math"])
        context.log(f"after its scores {len(releases)}")
        type(self)._garbage = weakref.ref(Cycle())
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.zeros_like(tensor.base)


class Stuck(MergingMethod):
    info = MethodInfo(name="stuck", title="Stuck", paper_url="")
    release = staticmethod(lambda: time.sleep(600))

    def prepare(self, context, config):
        torch.cuda.empty_cache = self.release
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.zeros_like(tensor.base)


class Dying(Stuck):
    info = MethodInfo(name="dying", title="Dying", paper_url="")
    release = staticmethod(lambda: os._exit(7))


@hookimpl
def mergebench_register_methods(register):
    for method in (Released(), Stuck(), Dying()):
        register(method)
