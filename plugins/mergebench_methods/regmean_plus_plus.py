"""RegMean++ (arXiv:2508.03121): RegMean block by block, on what the merged blocks below make of the samples."""

from mergebench_core import NUM_CALIBRATION_SAMPLES, MergingMethod, MethodInfo, grid, hookimpl

from .regmean import REDUCTION


class RegMeanPlusPlus(MergingMethod):
    info = MethodInfo(
        name="regmean_plus_plus",
        title="RegMean++",
        paper_url="https://arxiv.org/abs/2508.03121",
        needs={"calibration", "validation"},
        depth="model",
        determinism="platform",
        formula="RegMean's, block by block; X_t are the features inside specialist t's block when it is fed what "
        "the merged blocks below make of domain t's samples",
        cost="two forward passes over all domains' calibration samples per reduction; in memory the base in fp32, "
        "two blocks, one block's Gram matrices of every domain, and every token's hidden state in the base's "
        "dtype (domains * samples * tokens * features; 4 bytes per parameter of Llama-3.2-3B at 400 tokens each)",
        memory_bytes_per_parameter=10.0,
        fidelity="Checked against a slow reference that runs whole models. Embeddings are the base's, so the "
        "first block's inputs are the same for all specialists. Each domain has the same number of samples; the "
        "release reads whole data sets. Gram matrices are means over tokens, without padding, in fp32. The grid "
        "of the paper's five runs is RegMean's.",
    )
    hyperparameters = {
        "reduction": REDUCTION,
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
    }
    search_space = grid(reduction=[0.1, 0.3, 0.5, 0.7, 0.9])

    def merge(self, context, config):
        from .block_merging import merge_blocks

        yield from merge_blocks(context, config["num_calibration_samples"], config["reduction"])


@hookimpl
def mergebench_register_methods(register):
    register(RegMeanPlusPlus())
