"""Consensus TA (arXiv:2405.07813): Task Arithmetic where enough task masks agree, elsewhere the base."""

from mergebench_core import (
    SCALING_COEFFICIENT,
    MergebenchError,
    MergingMethod,
    MethodInfo,
    Parameter,
    Stage,
    hookimpl,
    stages,
)
from mergebench_core.kernels.updates import consensus_sum

DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
"""The domains whose masks are tuned, one after the other."""
LAMBDAS = (0.2, 0.3, 0.4, 0.5, 0.6)


def mask_stage(domain):
    """Return the stage that chooses one domain's lambda: base + its mask * sum of task vectors, on that domain."""
    return Stage(
        parameters={f"lambda_{domain}": LAMBDAS},
        domains=(domain,),
        candidate={"only_mask_of": domain, "scaling_coefficient": 1.0},
    )


class ConsensusTA(MergingMethod):
    info = MethodInfo(
        name="consensus_ta",
        title="Consensus TA",
        paper_url="https://arxiv.org/abs/2405.07813",
        needs={"validation"},
        formula="m * tau, tau = sum of tau_t, m = [at least min_votes of |tau_t| >= lambda_t * |tau - tau_t|]",
        cost="one pass over the models; one chunk of each in memory",
        fidelity="Checked to the bit against an element-by-element numpy reference. The comparison is that of "
        "MergeBench's paper (>=); the authors' code and the released code compare strictly, which differs only "
        "where both sides are equal. lambda_t is chosen as the authors do, on base + m_t * tau; the released code "
        "judges it on base + m_t * tau_t, and then uses 0.2 whatever was found.",
    )
    hyperparameters = {
        "lambda": Parameter(
            default=0.4,
            low=0.0,
            is_per_domain=True,
            meaning="an entry's size against the rest of the sum, to be in the mask",
        ),
        "min_votes": Parameter(default=2, low=1, meaning="masks that must agree on an entry, k in the paper"),
        "only_mask_of": Parameter(
            default="",
            meaning="the one domain whose mask decides, while its lambda is chosen; else empty",
        ),
        "scaling_coefficient": SCALING_COEFFICIENT,
    }
    search_space = stages(
        *map(mask_stage, DOMAINS), Stage(parameters={"scaling_coefficient": tuple(i / 10 for i in range(1, 11))})
    )
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        domains, only = tensor.domains, config["only_mask_of"] or None
        if only and only not in domains:
            raise MergebenchError(
                f"only_mask_of is '{only}', which is no domain here; give one of {', '.join(domains)}"
            )
        thresholds = {domain: config[f"lambda_{domain}"] for domain in domains}
        return consensus_sum(tensor, thresholds=thresholds, least_votes=config["min_votes"], only=only)


@hookimpl
def mergebench_register_methods(register):
    register(ConsensusTA())
