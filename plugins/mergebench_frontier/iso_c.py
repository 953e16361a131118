"""Iso-C (arXiv:2502.04959): the sum of task vectors with all its singular values made equal."""

from mergebench_core import MergingMethod, MethodInfo, Parameter, grid, hookimpl

FIDELITY = (
    "Checked against dense float64 singular value decompositions and numbers worked by hand. As in the released "
    "code tensors that are no linear weights are averaged. The mean is over all r singular values; directions of "
    "singular value zero, whose vectors are arbitrary, stay zero. The search grid is ours, around the 1.5 that "
    "fusion_bench uses."
)
HYPERPARAMETERS = {"scaling_coefficient": Parameter(default=1.5, meaning="multiplier of the update")}


class IsoC(MergingMethod):
    info = MethodInfo(
        name="iso_c",
        title="Iso-C",
        paper_url="https://arxiv.org/abs/2502.04959",
        needs={"validation"},
        depth="tensor",
        determinism="platform",
        formula="linear: mean(S) U V^T with U S V^T = sum of task vectors; others: mean of task vectors",
        cost="one pass; one weight of all models in memory and float64 copies of its sum and singular vectors; "
        "one r x r eigendecomposition per matrix of short side r",
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(scaling_coefficient=[i * 3 / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        from .spectral import float64, leading_triples, mean_task_vector

        if tensor.role != "linear":
            return mean_task_vector(tensor)
        rank = min(tensor.base.shape)
        triples = leading_triples(sum(float64(vector) for vector in tensor.task_vectors), rank)
        return (triples.values.sum() / rank * (triples.left @ triples.right.mT)).float()


@hookimpl
def mergebench_register_methods(register):
    register(IsoC())
