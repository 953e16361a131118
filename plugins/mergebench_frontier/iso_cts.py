"""Iso-CTS (arXiv:2502.04959): leading directions of the sum, then the specialists' own, all equally strong."""

from mergebench_core import MergingMethod, MethodInfo, Parameter, grid, hookimpl

FIDELITY = (
    "Checked against dense float64 singular value decompositions and numbers worked by hand. As in the released "
    "code k starts at floor(common_space_fraction * r), the rest is rounded to a multiple of n, the projection is "
    "on the output side, the mean is over all r places, and tensors that are no linear weights are averaged. "
    "Where that leaves the result to chance it is settled: triples of singular value zero are left out, and "
    "directions that depend on one another count once. The search grid is ours, around the "
    "1.5 that fusion_bench uses."
)
HYPERPARAMETERS = {
    "common_space_fraction": Parameter(
        default=0.8, low=0.0, high=1.0, meaning="share of the directions taken from the sum of task vectors"
    ),
    "scaling_coefficient": Parameter(default=1.5, meaning="multiplier of the update"),
}


class IsoCts(MergingMethod):
    info = MethodInfo(
        name="iso_cts",
        title="Iso-CTS",
        paper_url="https://arxiv.org/abs/2502.04959",
        needs={"validation"},
        depth="tensor",
        determinism="platform",
        formula="linear: mean(S) polar(U) polar(V)^T; U, S, V join the leading k triples of the sum of task "
        "vectors and the leading (r-k)/n of each tau_t - U_k U_k^T tau_t; others: mean of task vectors",
        cost="one pass; one weight of all models in memory and float64 copies of the task vectors and the kept "
        "vectors; per matrix of short side r one r x r eigendecomposition for each specialist and three more",
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(scaling_coefficient=[i * 3 / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        from .spectral import float64, leading_triples, mean_task_vector, recombine, with_values

        if tensor.role != "linear":
            return mean_task_vector(tensor)
        rank, num_specialists = min(tensor.base.shape), len(tensor.task_vectors)
        num_own = own_directions(rank, num_specialists, config["common_space_fraction"])
        vectors = [float64(vector) for vector in tensor.task_vectors]
        norms = [float(vector.norm()) for vector in vectors]
        common = leading_triples(sum(vectors), rank - num_own * num_specialists, sum(norms))
        kept = [common]
        for vector, norm in zip(vectors, norms, strict=True):
            rest = vector - common.left @ (common.left.mT @ vector)
            kept.append(leading_triples(rest, num_own, norm))
        mean = sum(float(part.values.sum()) for part in kept) / rank
        return recombine(with_values(kept, mean)).float()


def own_directions(rank: int, num_specialists: int, common_space_fraction: float) -> int:
    """Return how many directions each specialist gets, so that the common ones fill the rank up.

    Example:
        >>> own_directions(rank=2048, num_specialists=5, common_space_fraction=0.8)
        82
    """
    rest = rank - int(rank * common_space_fraction)
    return min(round(rest / num_specialists), rank // num_specialists)


@hookimpl
def mergebench_register_methods(register):
    register(IsoCts())
