"""Model Breadcrumbs (arXiv:2312.06795): drop each task vector's largest and smallest entries, add the rest."""

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl
from mergebench_core.checkpoints.thresholds import kept_rank, task_vector_values, tensor_order_statistics
from mergebench_core.kernels.updates import kept_sum

HYPERPARAMETERS = {
    "density": Parameter(default=0.9, low=0.0, is_low_open=True, high=1.0, meaning="fraction of each tensor kept"),
    "top_fraction": Parameter(
        default=0.01, low=0.0, high=1.0, is_high_open=True, meaning="fraction of largest entries dropped"
    ),
    "scaling_coefficient": SCALING_COEFFICIENT,
}


class Breadcrumbs(MergingMethod):
    info = MethodInfo(
        name="breadcrumbs",
        title="Model Breadcrumbs",
        paper_url="https://arxiv.org/abs/2312.06795",
        needs={"validation"},
        formula="sum_t m_t * tau_t; m_t keeps, of a tensor's N magnitudes |tau_t|, those at the ranks n_top + "
        "1 to n_top + int(density N), n_top = int(top_fraction N), but at most N - int(density N)",
        cost="one pass for the thresholds, one to merge; two numbers per tensor and domain",
        fidelity="Equal to the bit to a slow numpy reference in the tests. Thresholds per tensor, as in "
        "mergekit; the authors' code ranks within each row, and the paper's exact notation was not checked. "
        "Entries equal to a threshold are kept, so ties keep more than density; mergekit cuts ties in the "
        "order of its sort, takes weighted sums, and empties tensors that are too small for an outlier, which "
        "here keep their entries. No rescaling, as there.",
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(density=[0.15, 0.5, 0.9], scaling_coefficient=[i / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"
    prepare_uses = ("density", "top_fraction")

    def prepare(self, context, config):
        """Find the largest and the smallest magnitude kept, per tensor and domain."""

        def ranks(numel):
            return kept_ranks(numel, config["density"], config["top_fraction"])

        return Prepared(data={"bounds": tensor_order_statistics(context, task_vector_values, ranks)})

    def update(self, tensor, config, prepared):
        bounds = prepared.data["bounds"][tensor.name]
        low = {domain: lowest for domain, (_, lowest) in bounds.items()}
        high = {domain: highest for domain, (highest, _) in bounds.items()}
        return kept_sum(tensor, low=low, high=high)


def kept_ranks(numel, density, top_fraction):
    """Return the first and the last rank kept among `numel` magnitudes; 1 is the largest.

    The density comes first: the cut at the top shrinks where both do not fit.
    """
    num_kept = kept_rank(density, numel)
    num_top = min(int(top_fraction * numel), numel - num_kept)
    return num_top + 1, num_top + num_kept


@hookimpl
def mergebench_register_methods(register):
    register(Breadcrumbs())
