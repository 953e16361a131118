"""TIES-Merging as the released MergeBench code computes it: bf16, summed, zero sums take the majority's sign."""

from dataclasses import replace

from mergebench_core import (
    DENSITY,
    SCALING_COEFFICIENT,
    MergingMethod,
    MethodInfo,
    Parameter,
    Prepared,
    grid,
    hookimpl,
)

from . import released_code as released


def kept_rank(density, numel):
    """Return the rank, 1 for the largest, of the threshold: the (d - int(d * density))-th smallest magnitude."""
    return int(numel * density) + 1


def trimmed(tensor, thresholds):
    """Return bf16 task vectors, in the released order, with what is below the threshold set to 0."""
    return [
        vector * (vector.abs() >= thresholds[domain]) for domain, vector in released.task_vectors(tensor).items()
    ]


def disjoint_sum(vectors, majority_sign, aggregation):
    """Return the sum (bf16) or mean (fp32) of the entries whose sign is their sum's, or else the majority's."""
    elected = released.stacked_sum(vectors).sign()
    is_positive = (elected > 0) | ((elected == 0) & (majority_sign > 0))
    agreeing = [vector * (is_positive & (vector > 0) | ~is_positive & (vector < 0)) for vector in vectors]
    total = released.stacked_sum(agreeing)
    if aggregation == "sum":
        return total
    return total / sum((vector != 0).float() for vector in agreeing).clamp(min=1)


class TiesMergebenchCompat(MergingMethod):
    info = MethodInfo(
        name="ties_mergebench_compat",
        title="TIES-Merging (as released)",
        paper_url="https://arxiv.org/abs/2505.10833",
        needs={"validation"},
        base_roles=released.BASE_ROLES,
        variant_of="ties",
        formula="base + scaling_coefficient * sum of the trimmed entries that have the elected sign; "
        "an entry whose trimmed sum is 0 elects the sign that most entries elect",
        cost="three passes over the models for thresholds and the majority's sign, once per density, and "
        "one for every configuration; one chunk of each and a few histograms in memory",
        fidelity="Checked to the bit against a dense simulation of the released code on flattened bf16 vectors, "
        "with sum (the released default) and mean. Entries are added in the order of the domains; torch may add "
        "the last few of a vector in another order, which shows only where magnitudes differ by more than 2**16. "
        "With density 1 the released code stops with an error.",
    )
    hyperparameters = {
        "density": replace(DENSITY, is_high_open=True),
        "aggregation": Parameter(
            default="sum", choices=("sum", "mean"), meaning="of the agreeing entries; the released default is sum"
        ),
        "scaling_coefficient": SCALING_COEFFICIENT,
    }
    search_space = grid(density=[0.2, 0.5, 0.9], scaling_coefficient=[i / 5 for i in range(1, 11)])
    prepare_uses = ("density",)

    def prepare(self, context, config):
        """Find each task's threshold, the head's entries included, then the sign that most entries elect."""
        thresholds = released.thresholds(
            context, released.task_vectors, lambda numel: kept_rank(config["density"], numel)
        )
        balance = sum(
            int(released.stacked_sum(trimmed(chunk, thresholds)).sign().sum(dtype=int))
            for chunk in released.counted_chunks(context)()
        )
        return Prepared(data={"threshold": thresholds, "balance": balance})

    def merge_tensor(self, tensor, config, prepared):
        if not released.is_written(tensor.name):
            return released.unchanged(tensor)
        vectors = trimmed(tensor, prepared.data["threshold"])
        merged = disjoint_sum(vectors, prepared.data["balance"], config["aggregation"])
        return released.added(tensor, config["scaling_coefficient"] * merged)


@hookimpl
def mergebench_register_methods(register):
    register(TiesMergebenchCompat())
