"""Fisher merging (arXiv:2111.09832): the mean of specialists, weighted by Fisher information."""

from mergebench_core import NUM_CALIBRATION_SAMPLES, MergingMethod, MethodInfo, Parameter, Prepared, hookimpl


class Fisher(MergingMethod):
    info = MethodInfo(
        name="fisher",
        title="Fisher Merging",
        paper_url="https://arxiv.org/abs/2111.09832",
        needs={"calibration"},
        determinism="tolerance",
        is_stochastic=True,
        formula="sum_t (F_t + e) tau_t / sum_t (F_t + e); F_t = mean over samples of (grad sum_i log p(y_i))^2, "
        "e = 1e-6 * mean of all F",
        cost="one forward and backward pass per calibration sample; one specialist in fp32 and its Fisher "
        "information at a time (8 bytes per parameter, and activations and the largest gradient: 12 measured on a "
        "model of 0.2 billion); one fp32 file of Fisher information per specialist",
        memory_bytes_per_parameter=12.1,
        disk_bytes_per_parameter=20.0,
        fidelity="y_i is drawn from the specialist's own distribution at each token of the given completion. "
        "Given what precedes it, each term has mean zero, so the square of the sum estimates the sum of the "
        "squares without bias. Checked against a loop of single gradients. The released code of MergeBench moves "
        "the weights while it accumulates and looks at one token per sample; neither is done here.",
    )
    hyperparameters = {
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
        "labels": Parameter(
            default="sampled",
            choices=("sampled", "given"),
            meaning="draw completion tokens from the model, or take those of the sample (empirical Fisher)",
        ),
    }
    prepare_uses = ("num_calibration_samples", "labels")

    def prepare(self, context, config):
        """Estimate each specialist's diagonal Fisher information, one specialist after the other."""
        from .file_tensors import FileTensors
        from .fisher_information import floor_of, mean_value, specialist_fisher

        files = FileTensors(context.work_folder)
        fishers, means = {}, []
        for domain in context.specialists.domains:
            context.log(f"Fisher information of {domain}")
            found = specialist_fisher(context, domain, config)
            means.append(mean_value(found))
            fishers[f"fisher.{domain}"] = {name: files.keep(found.pop(name)) for name in list(found)}
        return Prepared(data={"floor": floor_of(means)}, tensors=fishers)

    def update(self, tensor, config, prepared):
        vectors, floor = tensor.task_vectors, prepared.data["floor"]
        weights = {domain: prepared.tensor(f"fisher.{domain}") + floor for domain in vectors.domains}
        mean = sum(vectors) / len(vectors)
        # the same as sum(weight * vector) / sum(weight), but exact where all vectors agree
        excess = sum(weights[domain] * (vector - mean) for domain, vector in vectors.items())
        return mean + excess / sum(weights.values())


@hookimpl
def mergebench_register_methods(register):
    register(Fisher())
