"""SCE (FuseChat, arXiv:2408.07990): select what varies, calculate weights, erase minority signs, per tensor."""

from mergebench_core import MergingMethod, MethodInfo, Parameter, grid, hookimpl

HYPERPARAMETERS = {
    "density": Parameter(
        default=0.2,
        low=0.0,
        is_low_open=True,
        high=1.0,
        meaning="fraction of positions kept, of those that differ between tasks; 1 keeps all",
    )
}


class Sce(MergingMethod):
    info = MethodInfo(
        name="sce",
        title="SCE",
        paper_url="https://arxiv.org/abs/2408.07990",
        needs={"validation"},
        depth="tensor",
        determinism="platform",
        formula="sum_t w_t e_t s tau_t / sum_t w_t e_t; s = 1 at the int(density K) largest of the K non-zero "
        "variances over tasks, w_t = mean((s tau_t)^2), e_t = 1 where sign(tau_t) = sign(sum_t tau_t)",
        cost="one pass; whole tensors of all models and four more in float64",
        fidelity="Checked in the tests against a dense float64 reference. As in mergekit, density 1 selects "
        "everything, below it only positions that differ between tasks count, so identical specialists give "
        "the base. Variances are float64 here; positions equal to the smallest selected variance are selected "
        "too, where mergekit selects exactly int(density K); a sum of exactly 0 elects no sign, where mergekit "
        "elects +. The paper's exact notation was not checked.",
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(density=[0.1, 0.2, 0.4, 0.6, 0.8, 1.0])

    def update(self, tensor, config, prepared):
        vectors = selected(list(tensor.task_vectors), config["density"])
        elected = sum(vectors).sign()
        shares = [
            (vector.sign() == elected) * weight for vector, weight in zip(vectors, weights(vectors), strict=True)
        ]
        total = sum(shares)
        merged = sum(share * vector for share, vector in zip(shares, vectors, strict=True))
        return merged / total.where(total > 0, 1)


def selected(vectors, density):
    """Return the task vectors with only the positions of largest variance over them kept, zeros elsewhere."""
    if density >= 1:
        return vectors
    spread = variance(vectors)
    num_kept = int(density * int(spread.count_nonzero()))
    if num_kept == 0:
        return [vector * 0 for vector in vectors]
    threshold = spread.flatten().kthvalue(spread.numel() - num_kept + 1).values
    return [vector * (spread >= threshold) for vector in vectors]


def variance(vectors):
    """Return the float64 variance over tasks; exactly 0 where all agree, because sums of fp32 values are exact."""
    mean = sum(vector.double() for vector in vectors) / len(vectors)
    return sum((vector - mean).square() for vector in vectors) / len(vectors)


def weights(vectors):
    """Return each task vector's share of the sum of squares; zeros if all are zero."""
    energies = [float(vector.double().square().sum()) for vector in vectors]
    return [energy / (sum(energies) or 1.0) for energy in energies]


@hookimpl
def mergebench_register_methods(register):
    register(Sce())
