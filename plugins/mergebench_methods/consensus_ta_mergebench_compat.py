"""Consensus TA as the released MergeBench code computes it: bf16, every lambda 0.2, strict comparison."""

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, Parameter, grid, hookimpl

from . import released_code as released

LAMBDA = 0.2
"""Fixed in the released code, whatever its command line says."""


class ConsensusTAMergebenchCompat(MergingMethod):
    info = MethodInfo(
        name="consensus_ta_mergebench_compat",
        title="Consensus TA (as released)",
        paper_url="https://arxiv.org/abs/2505.10833",
        needs={"validation"},
        base_roles=released.BASE_ROLES,
        variant_of="consensus_ta",
        formula="base + (tau * m) * scaling_coefficient, tau = sum of tau_t, "
        "m = [at least min_votes of |tau_t| > |tau - tau_t| * 0.2], each step rounded to bf16",
        cost="one pass over the models for every configuration; one chunk of each in memory",
        fidelity="Checked to the bit against a dense simulation of the released code on flattened bf16 vectors. "
        "Only the scaling coefficient is searched, for the released code ignores its own lambda.",
    )
    hyperparameters = {
        "min_votes": Parameter(default=2, low=1, meaning="masks that must agree on an entry, k in the paper"),
        "scaling_coefficient": SCALING_COEFFICIENT,
    }
    search_space = grid(scaling_coefficient=[i / 10 for i in range(1, 11)])

    def merge_tensor(self, tensor, config, prepared):
        if not released.is_written(tensor.name):
            return released.unchanged(tensor)
        vectors = released.task_vectors(tensor).values()
        total = sum(vectors)
        votes = sum((vector.abs() > (total - vector).abs() * LAMBDA).int() for vector in vectors)
        return released.added(tensor, total * (votes >= config["min_votes"]) * config["scaling_coefficient"])


@hookimpl
def mergebench_register_methods(register):
    register(ConsensusTAMergebenchCompat())
