"""Dataless Localize-and-Stitch (arXiv:2408.13656): each task keeps its largest entries, overlaps are averaged."""

from mergebench_core import DENSITY, MergingMethod, MethodInfo, Prepared, grid, hookimpl
from mergebench_core.checkpoints.thresholds import magnitude_thresholds
from mergebench_core.kernels.updates import kept_mean


class DatalessLocalizeAndStitch(MergingMethod):
    info = MethodInfo(
        name="dataless_localize_and_stitch",
        title="Dataless Localize-and-Stitch",
        paper_url="https://arxiv.org/abs/2408.13656",
        needs={"validation"},
        formula="sum of gamma_t * tau_t / sum of gamma_t, 0 where no task claims the entry; "
        "gamma_t = [|tau_t| is among the density largest of task t's vector, and not 0]",
        cost="two passes over the models, one of them once per density for the thresholds; "
        "one chunk of each and a few histograms in memory",
        fidelity="Checked to the bit against a numpy reference that sorts. Entries equal to the threshold are all "
        "kept; entries that a task did not change are never claimed, even if fewer than `density` changed. The "
        "released code claims those, takes each task's vector against a base that the tasks before it have "
        "changed, and weighs overlaps by one other task only: see its variant.",
    )
    hyperparameters = {"density": DENSITY}
    search_space = grid(density=[0.1, 0.2, 0.3, 0.4, 0.5])
    prepare_uses = ("density",)

    def prepare(self, context, config):
        """Find the magnitude that keeps `density` of each task vector, over all merged tensors together."""
        return Prepared(data={"threshold": magnitude_thresholds(context, config["density"])})

    def update(self, tensor, config, prepared):
        return kept_mean(tensor, low=prepared.data["threshold"])


@hookimpl
def mergebench_register_methods(register):
    register(DatalessLocalizeAndStitch())
