"""DELLA-Merging (arXiv:2406.11617): drop entries at random, small ones more often, then merge what is left."""

from dataclasses import replace

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl
from mergebench_core.errors import InputError

PRUNING = (
    "d_t = tau_t / p_t with probability p_t, else 0; p_t = density - epsilon + 2 epsilon (r - 1) / (m - 1), r = "
    "rank of |tau_t| in its row of m, 1 the smallest"
)
FIDELITY = (
    "Checked in the tests against a dense float64 reference on the same random numbers. Kept entries are "
    "divided by their own keep probability, as in the authors' code; mergekit matches L1 norms instead. Equal "
    "magnitudes are ranked in the order of their places, rows of one element are kept with probability density, "
    "and random numbers come in steps of 2**-16. A 1-D tensor is one row, in tensors of more dimensions the "
    "last one makes the rows."
)
HYPERPARAMETERS = {
    "density": Parameter(
        default=0.5,
        low=0.0,
        is_low_open=True,
        high=1.0,
        is_high_open=True,
        meaning="fraction kept on average; density - epsilon and density + epsilon lie between 0 and 1",
    ),
    "epsilon": Parameter(
        default=0.05,
        low=0.0,
        high=0.5,
        is_high_open=True,
        meaning="half the width of the range of keep probabilities; the authors' default",
    ),
    "scaling_coefficient": replace(SCALING_COEFFICIENT, default=1.0),
}


class Della(MergingMethod):
    info = MethodInfo(
        name="della",
        title="DELLA",
        paper_url="https://arxiv.org/abs/2406.11617",
        needs={"validation"},
        depth="tensor",
        is_stochastic=True,
        formula=f"mean of the d_t whose sign is that of sum_t d_t; {PRUNING}",
        cost="one pass; whole tensors of all models, with a sort of every row",
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS
    search_space = grid(density=[0.3, 0.5, 0.7], scaling_coefficient=[i / 5 for i in range(1, 11)])
    linear_in = "scaling_coefficient"
    prepare_uses = ("density", "epsilon")

    def prepare(self, context, config):
        """Refuse what gives no probabilities; there is nothing to prepare."""
        density, epsilon = config["density"], config["epsilon"]
        if density - epsilon <= 0 or density + epsilon >= 1:
            raise InputError(
                f"density {density} and epsilon {epsilon} give keep probabilities from {density - epsilon:g} to "
                f"{density + epsilon:g}; choose a smaller epsilon, so that they lie between 0 and 1"
            )
        return Prepared()

    def update(self, tensor, config, prepared):
        vectors = pruned(tensor, config)
        elected = sum(vectors).sign()
        agreeing = [vector * (vector.sign() == elected) for vector in vectors]
        num_agreeing = sum((vector != 0).float() for vector in agreeing)
        return sum(agreeing) / num_agreeing.clamp(min=1)


class DellaLinear(Della):
    info = MethodInfo(
        name="della_linear",
        title="DELLA, linear",
        paper_url="https://arxiv.org/abs/2406.11617",
        needs={"validation"},
        depth="tensor",
        is_stochastic=True,
        variant_of="della",
        formula=f"sum_t d_t; {PRUNING}",
        cost=Della.info.cost,
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS | {"scaling_coefficient": SCALING_COEFFICIENT}
    search_space = grid(density=[0.3, 0.5, 0.7], scaling_coefficient=[i / 10 for i in range(1, 11)])

    def update(self, tensor, config, prepared):
        return sum(pruned(tensor, config))


def pruned(tensor, config):
    """Return the task vectors with entries dropped at random and the others rescaled, in order of the domains."""
    vectors = []
    for domain, vector in tensor.task_vectors.items():
        probability = keep_probability(vector, config["density"], config["epsilon"])
        vectors.append(vector * (tensor.random(domain) < probability) / probability)
    return vectors


def keep_probability(vector, density, epsilon):
    """Return fp32 probabilities, shaped like `vector`, growing evenly with the rank of a magnitude in its row."""
    import torch

    rows = torch.atleast_1d(vector.abs())
    length = rows.shape[-1]
    ascending = torch.arange(length, dtype=torch.float64) / max(length - 1, 1) * (2 * epsilon) + (
        density - epsilon
    )
    if length == 1:
        ascending.fill_(density)
    order = rows.argsort(dim=-1, stable=True)
    return rows.scatter(-1, order, ascending.float().expand_as(rows)).reshape(vector.shape)


@hookimpl
def mergebench_register_methods(register):
    register(Della())
    register(DellaLinear())
