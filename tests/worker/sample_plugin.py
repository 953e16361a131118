"""Methods for tests of the worker: one for each thing a method may do."""

import os
from pathlib import Path

import torch

from mergebench_core import MergingMethod, MethodInfo, Prepared, grid, hookimpl


def info(name, **others):
    return MethodInfo(name=name, title=name, paper_url="", **others)


class Noise(MergingMethod):
    """A random half of each task vector."""

    info = info("noise", is_stochastic=True)

    def update(self, tensor, config, prepared):
        return sum(vector * (tensor.random(domain) < 0.5) for domain, vector in tensor.task_vectors.items())


class Centred(MergingMethod):
    """Needs whole tensors: what is left of the sum without its mean."""

    info = info("centred", depth="tensor")

    def update(self, tensor, config, prepared):
        total = sum(tensor.task_vectors)
        return total - total.mean()


class OneSpecialist(MergingMethod):
    """Depth model: yields a specialist's tensors, in fp32 and in another order."""

    info = info("one_specialist", depth="model", needs={"validation"})
    search_space = grid(domain=["math", "coding"])

    def merge(self, context, config):
        for name in reversed(list(dict.fromkeys(chunk.name for chunk in context.chunks()))):
            yield name, context.specialists[config["domain"]].tensor(name).float()


class Everything(MergingMethod):
    """Depth model without a policy: all of a specialist."""

    info = info("everything", depth="model", base_roles=())

    def merge(self, context, config):
        for name in context.base.names:
            yield name, context.specialists["math"].tensor(name)


class OwnRounding(MergingMethod):
    """Overrides merge_tensor: towards the specialist, added in the stored dtype."""

    info = info("own_rounding")

    def merge_tensor(self, tensor, config, prepared):
        step = tensor.task_vectors["math"].to(torch.bfloat16)
        return tensor.base.to(torch.bfloat16) + step


class Counted(MergingMethod):
    """Logs each prepare and what it sees."""

    info = info("counted", needs={"validation"})
    search_space = grid(density=[0.2, 0.5], other=[1, 2], scale=[1.0, 2.0])
    linear_in = "scale"
    prepare_uses = ("density",)

    def prepare(self, context, config):
        context.log(f"prepare {dict(config)} scratch {len(list(context.work_folder.iterdir()))}")
        (context.work_folder / "file").write_text("x")
        return Prepared(data={"density": config["density"]})

    def update(self, tensor, config, prepared):
        assert sorted(config) == ["density", "other"]
        return torch.full_like(tensor.base, prepared.data["density"] * config["other"])


class Masked(MergingMethod):
    """Prepares a tensor per weight, one of another size, and shares memory between two labels."""

    info = info("masked")

    def prepare(self, context, config):
        masks = {name: context.base.tensor(name).float() for name in context.base.names}
        rows = {name: torch.arange(3.0) for name in masks}
        return Prepared(tensors={"mask": masks, "same": masks, "row": rows})

    def update(self, tensor, config, prepared):
        assert prepared.tensor("row").tolist() == [0.0, 1.0, 2.0]
        assert prepared.tensor("mask").shape == tensor.base.shape
        assert torch.equal(prepared.tensor("mask"), tensor.base)
        assert torch.equal(prepared.tensor("same"), tensor.base)
        return prepared.tensor("mask")


class MaskedWhole(Masked):
    info = info("masked_whole", depth="tensor")


class Reader(MergingMethod):
    """Reads calibration samples and says so."""

    info = info("reader", needs={"calibration", "validation"})
    search_space = grid(num_samples=[60, 1])
    prepare_uses = ("num_samples",)

    def prepare(self, context, config):
        rows = list(context.calibration("math", config["num_samples"]))
        context.log(f"{len(rows)} samples, last {rows[-1]['prompt']}")
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.zeros_like(tensor.base)


class Searcher(MergingMethod):
    """Searches by itself: validates each specialist, keeps the best."""

    info = info("searcher", needs={"validation"})

    def prepare(self, context, config):
        scores = {}
        for domain, model in context.specialists.items():
            tensors = ((chunk.name, chunk) for chunk in context.chunks())
            names = dict.fromkeys(name for name, _ in tensors)
            scores[domain] = context.validate(((name, model.tensor(name)) for name in names), [domain])
        context.log(str(scores))
        return Prepared(data={"best": max(scores, key=lambda domain: scores[domain][domain])})

    def update(self, tensor, config, prepared):
        return tensor.task_vectors[prepared.data["best"]]


class UndeclaredReader(Reader):
    info = info("undeclared_reader")
    search_space = grid(num_samples=[2])


class UndeclaredSearcher(Searcher):
    info = info("undeclared_searcher")


class Prints(MergingMethod):
    info = info("prints")

    def update(self, tensor, config, prepared):
        print("printed by a method")  # noqa: T201
        os.write(1, b"written by a method\n")
        return torch.zeros_like(tensor.base)


class Alien(MergingMethod):
    """Says what it finds in its environment."""

    info = info("alien")

    def prepare(self, context, config):
        context.log(f"{sorted(os.environ)} {str(Path.cwd()) == os.environ['HOME']} {torch.get_num_threads()}")
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.full_like(tensor.base, float("nan"))


METHODS = [
    found
    for found in list(globals().values())
    if isinstance(found, type) and issubclass(found, MergingMethod) and found is not MergingMethod
]


@hookimpl
def mergebench_register_methods(register):
    for method in METHODS:
        register(method())
