"""Model Stock (arXiv:2403.19522): go from the base towards the specialists' mean as far as their angle says."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl


class ModelStock(MergingMethod):
    info = MethodInfo(
        name="model_stock",
        title="Model Stock",
        paper_url="https://arxiv.org/abs/2403.19522",
        depth="tensor",
        determinism="platform",
        formula="t * mean_t tau_t per tensor, t = n c / (1 + (n - 1) c), c = mean cosine between two task vectors",
        cost="one pass; whole tensors of all models, two of them in float64",
        fidelity="Checked in the tests against a dense float64 reference and by hand. The mean over the pairs "
        "for more than two specialists is mergekit's assumption, the paper does not say. Ours: a negative mean "
        "cosine counts as 0 (the tensor stays the base's, t never leaves [0, 1]), a zero task vector has "
        "cosine 0 with any other, a single specialist has t = 1. The paper's exact notation was not checked.",
    )

    def update(self, tensor, config, prepared):
        vectors = list(tensor.task_vectors)
        return sum(vectors) / len(vectors) * interpolation_ratio(mean_cosine(vectors), len(vectors))


def interpolation_ratio(cosine, num_specialists):
    """Return how far to go from the base to the mean of the specialists, from 0 to 1.

    Example:
        >>> interpolation_ratio(0.5, 2)
        0.6666666666666666
    """
    cosine = min(max(cosine, 0.0), 1.0)
    return num_specialists * cosine / (1 + (num_specialists - 1) * cosine)


def mean_cosine(vectors):
    """Return the mean cosine over all pairs, 1 where there is only one vector.

    The squared length of the sum of n unit vectors is n plus twice the sum over the pairs: no pair is formed.
    """
    import torch

    if len(vectors) == 1:
        return 1.0
    total, num_nonzero = torch.zeros_like(vectors[0], dtype=torch.float64), 0
    for vector in vectors:
        length = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
        if length > 0:
            total += vector.double() / length
            num_nonzero += 1
    return (float(total.square().sum()) - num_nonzero) / (len(vectors) * (len(vectors) - 1))


@hookimpl
def mergebench_register_methods(register):
    register(ModelStock())
