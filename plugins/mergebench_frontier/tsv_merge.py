"""TSV-Merge (arXiv:2412.00081): each specialist's leading singular vectors, made orthogonal to the others'."""

from mergebench_core import MergingMethod, MethodInfo, Parameter, grid, hookimpl

COST = (
    "one pass; one weight of all models in memory, and float64 copies of one task vector and the kept vectors; "
    "per matrix of short side r one r x r eigendecomposition for each specialist and two more"
)
FIDELITY = (
    "Checked against dense float64 singular value decompositions and numbers worked by hand. As in the authors' "
    "code floor(r/n) triples are kept and tensors that are no linear weights are averaged. Where that leaves the "
    "result to chance it is settled: triples of singular value zero are left out, directions that depend on one "
    "another count once, at least one triple is kept. The search grid around the paper's coefficient 1 is ours."
)
HYPERPARAMETERS = {
    "scaling_coefficient": Parameter(default=1.0, meaning="multiplier of the update; 1 in the paper")
}


class TsvMerge(MergingMethod):
    info = MethodInfo(
        name="tsv_merge",
        title="TSV-Merge",
        paper_url="https://arxiv.org/abs/2412.00081",
        needs={"validation"},
        depth="tensor",
        determinism="platform",
        formula="linear: polar([U_1 .. U_n]) diag(S_1 .. S_n) polar([V_1 .. V_n])^T of the leading floor(r/n) "
        "singular triples of each task vector; others: mean of task vectors",
        cost=COST,
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(scaling_coefficient=[i / 5 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        from .spectral import float64, leading_triples, mean_task_vector, recombine

        if tensor.role != "linear":
            return mean_task_vector(tensor)
        number = max(1, min(tensor.base.shape) // len(tensor.task_vectors))
        kept = [leading_triples(float64(vector), number) for vector in tensor.task_vectors]
        return recombine(kept).float()


@hookimpl
def mergebench_register_methods(register):
    register(TsvMerge())
