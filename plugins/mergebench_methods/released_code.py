"""What the released code (uiuctml/MergeBench, commit b245648) does alike in all methods: bf16, one order.

Models are read in bf16 and stay so: differences, sums and products are rounded to bf16 each. A vector holds every
parameter whose name lacks `embed` (the head's too), but neither those nor the head are written.
"""

from functools import partial

from mergebench_core.checkpoints.thresholds import order_statistics

ORDER = ("instruction", "math", "coding", "safety", "multilingual")
BASE_ROLES = frozenset({"embedding"})
"""The head takes part in thresholds, so the policy must not leave it out."""


def in_order(domains):
    """Return the domains in the order in which the released code adds them up; others come after, sorted."""
    return [domain for domain in ORDER if domain in domains] + sorted(set(domains) - set(ORDER))


def is_read(name):
    """Return whether the released code counts a tensor."""
    return "embed" not in name and "Embedding" not in name


def is_written(name):
    """Return whether the released code changes a tensor."""
    return "embed" not in name.lower() and "lm_head" not in name


def task_vectors(tensor):
    """Return bf16 task vectors by domain, in the released order: one rounding of the difference."""
    base = tensor.base.bfloat16()
    return {
        domain: tensor.specialists[domain].bfloat16() - base for domain in in_order(tensor.specialists.domains)
    }


def stacked_sum(vectors):
    """Return the sum of bf16 tensors as torch sums a stack of them: in fp32, rounded once."""
    return sum(vector.float() for vector in vectors).bfloat16()


def added(tensor, update):
    """Return base + update in the base's dtype: added in the wider of the two dtypes, rounded to bf16."""
    return (tensor.base.bfloat16() + update).bfloat16().to(tensor.dtype)


def unchanged(tensor):
    """Return the base's own values, for tensors that are not written."""
    return tensor.base.to(tensor.dtype)


def counted_chunks(context):
    """Return a function that walks over every chunk that counts in thresholds."""
    return partial(context.chunks, [name for name in context.merged_names if is_read(name)])


def thresholds(context, vectors_of, rank_of):
    """Return, by domain, the `rank_of(d)`-th largest magnitude of the d entries of a bf16 vector.

    `vectors_of(chunk)` gives each domain's part of it.
    """
    found = order_statistics(
        counted_chunks(context),
        lambda chunk: {domain: vector.float() for domain, vector in vectors_of(chunk).items()},
        lambda numel: [rank_of(numel)],
    )
    return {domain: threshold for domain, (threshold,) in found.items()}
