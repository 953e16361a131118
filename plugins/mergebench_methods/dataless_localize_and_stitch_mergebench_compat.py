"""Dataless Localize-and-Stitch as the released MergeBench code computes it, on a base that changes."""

from mergebench_core import DENSITY, MergingMethod, MethodInfo, Prepared, grid, hookimpl

from . import released_code as released


def localize(tensor, thresholds):
    """Return the base (bf16) as the tasks with a threshold leave it, and each one's mask.

    Each task's vector is taken against the base that the tasks before it have already been added to.
    """
    base, masks = tensor.base.bfloat16(), {}
    for domain in released.in_order(thresholds):
        vector = tensor.specialists[domain].bfloat16() - base
        masks[domain] = vector.abs() >= thresholds[domain]
        if released.is_written(tensor.name):
            base = base + vector * masks[domain]
    return base, masks


def next_threshold(context, domain, thresholds, density):
    """Return a task's threshold by its domain; `thresholds` are those of the tasks before it."""

    def vector_of(chunk):
        return {domain: chunk.specialists[domain].bfloat16() - localize(chunk, thresholds)[0]}

    return released.thresholds(context, vector_of, lambda numel: max(1, int(density * numel)))


def overlap_weights(masks):
    """Return each mask as bf16, halved where the last other task claims the entry too."""
    weights = {}
    for domain, mask in masks.items():
        others = [other for other in masks if other != domain]
        is_shared = mask & masks[others[-1]] if others else mask & False
        weights[domain] = mask.bfloat16() / (1 + is_shared.bfloat16())
    return weights


class DatalessLocalizeAndStitchMergebenchCompat(MergingMethod):
    info = MethodInfo(
        name="dataless_localize_and_stitch_mergebench_compat",
        title="Dataless Localize-and-Stitch (as released)",
        paper_url="https://arxiv.org/abs/2505.10833",
        needs={"validation"},
        base_roles=released.BASE_ROLES,
        variant_of="dataless_localize_and_stitch",
        formula="base' + sum of w_t * (specialist_t - base'), base' = base + each task's masked vector in turn, "
        "w_t = 1, or 1/2 where the last other task claims the entry too",
        cost="two passes over the models for each of T tasks, once per density, and one for the merge; "
        "one chunk of each and a few histograms in memory: the changed base is computed again for every chunk",
        fidelity="Checked to the bit against a dense simulation of the released code, its base changed in place. "
        "Where int(density * d) is 0 the released code stops with an error; here one entry is kept.",
    )
    hyperparameters = {"density": DENSITY}
    search_space = grid(density=[0.1, 0.2, 0.3, 0.4, 0.5])
    prepare_uses = ("density",)

    def prepare(self, context, config):
        """Find each task's threshold in turn: its vector depends on the masks of those before it."""
        thresholds = {}
        for domain in released.in_order(context.specialists.domains):
            thresholds |= next_threshold(context, domain, thresholds, config["density"])
        return Prepared(data={"threshold": thresholds})

    def merge_tensor(self, tensor, config, prepared):
        if not released.is_written(tensor.name):
            return released.unchanged(tensor)
        base, masks = localize(tensor, prepared.data["threshold"])
        weights = overlap_weights(masks)
        vectors = {domain: tensor.specialists[domain].bfloat16() - base for domain in masks}
        stitched = sum(weight * vectors[domain] for domain, weight in weights.items())
        return (base + stitched).to(tensor.dtype)


@hookimpl
def mergebench_register_methods(register):
    register(DatalessLocalizeAndStitchMergebenchCompat())
