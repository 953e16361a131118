"""TIES-Merging (arXiv:2306.01708): trim each task vector, elect a sign per element, average what agrees."""

from mergebench_core import MergingMethod, MethodInfo, Prepared, grid, hookimpl
from mergebench_core.checkpoints.thresholds import magnitude_thresholds
from mergebench_core.kernels.updates import elected_mean


class Ties(MergingMethod):
    info = MethodInfo(
        name="ties",
        title="TIES-Merging",
        paper_url="https://arxiv.org/abs/2306.01708",
        needs={"validation"},
    )
    search_space = grid(density=[0.2, 0.5, 0.9], scaling_coefficient=[i / 5 for i in range(1, 11)])
    linear_in = "scaling_coefficient"
    prepare_uses = ("density",)

    def prepare(self, context, config):
        """Find the magnitude that keeps `density` of each task vector, over all merged tensors together."""
        return Prepared(data={"threshold": magnitude_thresholds(context, config["density"])})

    def update(self, tensor, config, prepared):
        return elected_mean(tensor, low=prepared.data["threshold"])


@hookimpl
def mergebench_register_methods(register):
    register(Ties())
