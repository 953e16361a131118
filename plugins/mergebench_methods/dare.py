"""DARE (arXiv:2311.03099): drop entries of each task vector at random, rescale the rest, add them up."""

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, Parameter, grid, hookimpl
from mergebench_core.kernels.updates import RANDOM_LEVELS, random_sum


class Dare(MergingMethod):
    info = MethodInfo(
        name="dare",
        title="DARE",
        paper_url="https://arxiv.org/abs/2311.03099",
        needs={"validation"},
        is_stochastic=True,
        formula="sum over t of keep_t * tau_t / density, keep_t ~ Bernoulli(density) for every entry",
        cost="one pass over the models; one chunk of each in memory",
        fidelity="Checked to the bit against an element-by-element numpy reference with its own Philox stream. "
        "The density is rounded to a multiple of 2**-16, and that rounded density rescales. DARE's paper and the "
        "released code speak of the drop rate, 1 - density; the released code draws without a seed and sums a "
        "mixture of bf16 and fp32, so it has no outcome to be compared with.",
    )
    hyperparameters = {
        "density": Parameter(
            default=0.2, low=1 / RANDOM_LEVELS, high=1.0, meaning="probability that an entry is kept"
        ),
        "scaling_coefficient": SCALING_COEFFICIENT,
    }
    search_space = grid(density=[0.1, 0.2, 0.5], scaling_coefficient=[i / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        return random_sum(tensor, density=config["density"])


@hookimpl
def mergebench_register_methods(register):
    register(Dare())
