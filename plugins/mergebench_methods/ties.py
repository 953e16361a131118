"""TIES-Merging (arXiv:2306.01708): trim each task vector, elect a sign per element, average what agrees."""

from mergebench_core import DENSITY, SCALING_COEFFICIENT, MergingMethod, MethodInfo, Prepared, grid, hookimpl
from mergebench_core.checkpoints.thresholds import magnitude_thresholds
from mergebench_core.kernels.updates import elected_mean


class Ties(MergingMethod):
    info = MethodInfo(
        name="ties",
        title="TIES-Merging",
        paper_url="https://arxiv.org/abs/2306.01708",
        needs={"validation"},
        formula="mean of the trimmed tau_t whose sign is that of the sum of the trimmed tau_t, element by element",
        cost="two passes over the models, one of them once per density for the thresholds; one chunk of each "
        "and a few histograms in memory",
        fidelity="Checked to the bit against an element-by-element numpy reference. Entries equal to the "
        "threshold are all kept; an entry whose trimmed sum is 0 stays the base's. The released code sums instead "
        "of averaging, in bf16, and lets the majority of all entries decide zero sums: ties_mergebench_compat.",
    )
    hyperparameters = {"density": DENSITY, "scaling_coefficient": SCALING_COEFFICIENT}
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
