"""PCB-Merging (arXiv:2410.02396): weigh each entry by its size within its task and its agreement between tasks."""

from dataclasses import replace
from functools import partial

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl
from mergebench_core.checkpoints.thresholds import order_statistics, task_vector_values

CLAMPED_FRACTION = 0.0001
"""Fraction of each task vector's largest magnitudes, and of its smallest, that is set to the next one."""

HYPERPARAMETERS = {
    "density": Parameter(
        default=0.1,
        low=0.0,
        is_low_open=True,
        high=1.0,
        meaning="fraction of each task vector that weighs more than 0",
    ),
    "scaling_coefficient": replace(SCALING_COEFFICIENT, default=1.2),
}


class Pcb(MergingMethod):
    info = MethodInfo(
        name="pcb",
        title="PCB-Merging",
        paper_url="https://arxiv.org/abs/2410.02396",
        needs={"validation"},
        determinism="platform",
        formula="sum_t s_t c_t / sum_t s_t; c_t = tau_t with |tau_t| clamped to its 0.0001 and 0.9999 "
        "quantiles, b_t = exp(n minmax(|c_t|)^2) tanh(tau_t sum_j tau_j), s_t = minmax of b_t raised to its 1 "
        "- density quantile",
        cost="one pass for the quantiles, one for the scores' quantile and maximum, one to merge; four "
        "numbers per domain",
        fidelity="Equal to a dense numpy reference in the tests. Follows the released code; the paper writes "
        "the scores with softmax, and its exact notation was not checked. Quantiles are taken over all merged "
        "tensors, without embeddings and head; scores are ranked by value, negative ones too. Where the "
        "quantile is the maximum, which the released code divides by zero, the entries that reach it weigh 1, "
        "or 0 if they are not positive. One coefficient for all domains; the released code can search one for "
        "each.",
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(density=[0.05, 0.1, 0.2], scaling_coefficient=[i / 5 for i in range(1, 11)])
    linear_in = "scaling_coefficient"
    prepare_uses = ("density",)

    def prepare(self, context, config):
        """Find the quantiles of the magnitudes, then quantile and maximum of the scores that they give."""
        bounds = order_statistics(context.chunks, task_vector_values, bound_ranks)
        found = order_statistics(
            context.chunks, partial(signed_scores, bounds=bounds), partial(level_ranks, config["density"])
        )
        levels = {domain: score_levels(found[f"{domain} +"], found[f"{domain} -"]) for domain in bounds}
        return Prepared(data={"bounds": bounds, "levels": levels})

    def update(self, tensor, config, prepared):
        bounds, levels = prepared.data["bounds"], prepared.data["levels"]
        shares = {
            domain: share(score, *levels[domain]) for domain, score in scores(tensor.task_vectors, bounds).items()
        }
        merged = sum(
            vector.sign() * clamped(vector, *bounds[domain]) * shares[domain]
            for domain, vector in tensor.task_vectors.items()
        )
        return merged / sum(shares.values()).clamp(min=1e-12)


def bound_ranks(numel):
    """Return the ranks of the largest and the smallest magnitude to clamp to, as the released code counts."""
    return numel - int(numel * (1 - CLAMPED_FRACTION) - 1), numel - int(numel * CLAMPED_FRACTION)


def level_ranks(density, numel):
    """Return the ranks of maximum and quantile among the scores, then the same counted from the other end."""
    num_kept = numel - int(numel * (1 - density))
    return 1, num_kept, numel, numel - num_kept + 1


def score_levels(positive, negative):
    """Return maximum and quantile by value, from what `level_ranks` found among positive and negative parts."""
    highest, kept, _, _ = positive
    _, _, highest_negative, kept_negative = negative
    return [highest or -highest_negative, kept or -kept_negative]


def clamped(vector, high, low):
    """Return the magnitudes, those out of the quantiles set to these."""
    return vector.abs().clamp(low, high)


def scores(task_vectors, bounds):
    """Return, by domain, fp32 products of the score within the task and the score between tasks."""
    total = sum(task_vectors)
    found = {}
    for domain, vector in task_vectors.items():
        high, low = bounds[domain]
        size = (clamped(vector, high, low) - low) / ((high - low) or 1.0)
        found[domain] = (size * size * len(task_vectors)).exp() * (vector * total).tanh()
    return found


def signed_scores(chunk, bounds):
    """Return positive and negative parts of the scores apart, so that ranks of magnitudes tell ranks of values."""
    parts = {}
    for domain, score in scores(chunk.task_vectors, bounds).items():
        parts[f"{domain} +"], parts[f"{domain} -"] = score.clamp(min=0), (-score).clamp(min=0)
    return parts


def share(score, highest, threshold):
    """Return what an entry weighs, from 0 at the threshold to 1 at the highest score."""
    if highest > threshold:
        return (score.clamp(min=threshold) - threshold) / (highest - threshold)
    return (score >= highest).float() * (highest > 0)


@hookimpl
def mergebench_register_methods(register):
    register(Pcb())
