"""RegMean (arXiv:2212.09849): per linear layer the weights that best repeat all specialists' outputs."""

from mergebench_core import NUM_CALIBRATION_SAMPLES, MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl

REDUCTION = Parameter(default=0.5, low=0.0, high=1.0, meaning="what off-diagonal Gram elements are multiplied by")


class RegMean(MergingMethod):
    info = MethodInfo(
        name="regmean",
        title="RegMean",
        paper_url="https://arxiv.org/abs/2212.09849",
        needs={"calibration", "validation"},
        depth="tensor",
        determinism="platform",
        formula="linear: sum_t tau_t H_t (sum_t H_t)^-1, H_t = reduction G_t + (1 - reduction) diag(G_t) + "
        "1e-6 mean(diag) I, G_t = X_t^T X_t / tokens; else mean of tau_t",
        cost="one forward pass over the calibration samples per specialist, one at a time in fp32 (4 bytes per "
        "parameter) with its Gram matrices (4 in^2 bytes per distinct input); then one fp64 solve per linear "
        "layer and reduction; on disk the summed Gram matrix per layer and 4 bytes per parameter",
        memory_bytes_per_parameter=18.4,
        disk_bytes_per_parameter=8.4,
        fidelity="Checked as the minimiser of sum_t |X_t W - X_t W_t|^2 against a dense least-squares solver. "
        "Gram matrices are means over tokens, as in the authors' and the released code, so that no domain counts "
        "more for being longer; padding is left out and everything is fp32 or fp64, where the release has padding "
        "in and bf16. The grid of the paper's five runs is not known; 0.1 to 0.9 is tried.",
    )
    hyperparameters = {
        "reduction": REDUCTION,
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
    }
    search_space = grid(reduction=[0.1, 0.3, 0.5, 0.7, 0.9])
    prepare_uses = ("num_calibration_samples",)

    def prepare(self, context, config):
        """Sum what the closed form needs of each domain's Gram matrices; a reduction costs no second pass."""
        from .gram_sums import GramSums, specialist_grams

        sums = GramSums(context)
        for domain in context.specialists.domains:
            context.log(f"Gram matrices of {domain}")
            sums.add(domain, specialist_grams(context, domain, config["num_calibration_samples"]))
        data = {"linear": sorted(sums.products), "device": str(context.device)}
        return Prepared(data=data, tensors=sums.tensors())

    def update(self, tensor, config, prepared):
        from .input_grams import mean_of, regmean_update

        vectors = tensor.task_vectors
        if tensor.name not in prepared.data["linear"]:
            return mean_of(list(vectors))
        num_inputs = tensor.base.shape[1]
        return regmean_update(
            list(vectors),
            prepared.tensor("product").to(prepared.data["device"]),
            prepared.tensor("gram"),
            [prepared.tensor(f"diagonal.{domain}").view(num_inputs) for domain in vectors.domains],
            config["reduction"],
        ).cpu()


@hookimpl
def mergebench_register_methods(register):
    register(RegMean())
