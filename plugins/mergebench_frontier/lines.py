"""LiNeS (arXiv:2410.17146): scale any method's update, deeper transformer blocks more than shallow ones."""

from dataclasses import replace
from types import SimpleNamespace

from mergebench_core import MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl
from mergebench_core.errors import PluginError
from mergebench_core.methods import overrides
from mergebench_core.worker.prepared import StoredPrepared, store_prepared


class Lines(MergingMethod):
    """LiNeS on the update of another method, without that method's coefficient."""

    search_space = grid(beta=[i / 10 for i in range(1, 16)])

    def __init__(self, name, part):
        self._part_name = part
        self._info = MethodInfo(
            name=name,
            title=f"LiNeS on {part}",
            paper_url="https://arxiv.org/abs/2410.17146",
            needs={"validation"},
            determinism="platform",
            builds_on=(part,),
            formula="(alpha + beta (l - 1) / (L - 1)) u in block l of L, alpha u outside the blocks; u = "
            f"update of {part}, alpha = |sum_t tau_t|_1 / (n |u|_1)",
            cost=f"what {part} takes to prepare, one pass for the norms, and a merge of {part} for every beta",
            fidelity="Checked in the tests against a dense float64 reference on a model of three blocks. "
            "alpha, the scale outside the blocks and the range of beta follow the released code; the paper's "
            "exact notation was not checked. Blocks are told from the tensors' names as transformers makes "
            "them; the norms are over all merged tensors; a model with one block gets alpha everywhere. The "
            f"hyper-parameters of {part}, but its coefficient, keep their defaults during the search.",
        )

    @property
    def part(self):
        """The method whose update is scaled.

        Raises:
            PluginError: it gives final weights, or is scaled by depth itself.
        """
        part = self.parts[self._part_name]
        if isinstance(part, Lines) or part.info.depth == "model" or overrides(part, "merge_tensor"):
            raise PluginError(
                f"method '{self._info.name}' builds on '{self._part_name}', which gives final weights or is "
                "scaled by depth itself; build on a method that defines `update`"
            )
        return part

    @property
    def info(self):
        """What the method says of itself; what depends on the part is known once the loader has bound it."""
        if not self.parts:
            return self._info
        part = self.parts[self._part_name].info
        return replace(
            self._info,
            needs=self._info.needs | part.needs,
            depth=part.depth,
            determinism="tolerance" if part.determinism == "tolerance" else "platform",
            is_stochastic=part.is_stochastic,
            base_roles=part.base_roles,
        )

    @property
    def hyperparameters(self):
        """`beta` and everything that the part takes, but for its coefficient."""
        part = self.part
        beta = Parameter(default=0.5, low=0.0, meaning="how much more the last block gets than the first")
        return {"beta": beta} | {name: found for name, found in part.parameters.items() if name != part.linear_in}

    @property
    def prepare_uses(self):
        return tuple(name for name in self.hyperparameters if name != "beta")

    def prepare(self, context, config):
        """Prepare the part, then find alpha from the norms, and the number of blocks."""
        found = self.part.prepare(context, config)
        stored = StoredPrepared(store_prepared(found, context.work_folder / "part"))
        data = {"part": dict(found.data), **self._measure(context, config, stored)}
        return Prepared(data=data, tensors=found.tensors)

    def _measure(self, context, config, stored):
        import torch

        summed = merged = 0.0
        num_blocks = 0
        for chunk in context.chunks(depth=self.info.depth):
            with torch.no_grad():
                update = self.part.update(chunk, config, stored.view(chunk))
            summed += float(sum(chunk.task_vectors).double().abs().sum())
            merged += float(update.double().abs().sum())
            num_blocks = max(num_blocks, 0 if chunk.layer is None else chunk.layer + 1)
        return {"alpha": summed / merged / len(context.specialists) if merged else 0.0, "num_blocks": num_blocks}

    def update(self, tensor, config, prepared):
        view = SimpleNamespace(data=prepared.data["part"], tensor=prepared.tensor)
        depth = relative_depth(tensor.layer, prepared.data["num_blocks"])
        scale = prepared.data["alpha"] + config["beta"] * depth
        return self.part.update(tensor, config, view) * scale


def relative_depth(layer, num_blocks):
    """Return 0 for the first block and outside the blocks, 1 for the last block.

    Example:
        >>> relative_depth(1, 3), relative_depth(None, 3)
        (0.5, 0.0)
    """
    return 0.0 if layer is None or num_blocks < 2 else layer / (num_blocks - 1)


def lines_on(part):
    """Return LiNeS on the method called `part`, of any plugin, as the method `lines_<part>`.

    Example:
        In a plugin of your own: `register(lines_on("my_method"))`
    """
    return Lines(f"lines_{part}", part)


@hookimpl
def mergebench_register_methods(register):
    register(Lines("lines", "task_arithmetic"))
    register(lines_on("ties"))
