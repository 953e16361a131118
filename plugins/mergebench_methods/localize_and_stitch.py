"""Localize-and-Stitch (arXiv:2408.13656): train a mask per task vector, average where masks meet."""

from mergebench_core import NUM_CALIBRATION_SAMPLES, MergingMethod, MethodInfo, Parameter, Prepared, hookimpl


class LocalizeAndStitch(MergingMethod):
    info = MethodInfo(
        name="localize_and_stitch",
        title="Localize-and-Stitch",
        paper_url="https://arxiv.org/abs/2408.13656",
        needs={"calibration"},
        determinism="tolerance",
        formula="sum_t m_t tau_t / max(1, sum_t m_t); m_t = [S_t > 0], S_t minimises "
        "loss_t(base + sigmoid(S_t) tau_t) + l1_strength mean(sigmoid(S_t)), starting from the largest |tau_t|",
        cost="two passes over the models for thresholds; then, per task and epoch, one forward and backward pass "
        "over the calibration samples; in memory 20 bytes per parameter: weights, gradients, base, task vector, "
        "scores, all fp32; one file of a byte per parameter and specialist",
        memory_bytes_per_parameter=25.9,
        disk_bytes_per_parameter=5.0,
        fidelity="Gradients of the scores are checked against automatic differentiation, the training against a "
        "model whose task only some entries of the task vector do, the stitching against numbers worked by hand. "
        "Start, objective and stitching follow MergeBench's paper and the authors' code; the paper's own text on "
        "training was not at hand. Ours: scores move by gradients scaled to a root mean square of 1, so that one "
        "learning rate suits models of any size, where the released code takes steps of 1e8 times the gradient; "
        "an entry is kept where its score ends above 0; entries that a specialist did not change are never "
        "claimed. The released code trains n**2 epochs on weights that move besides; neither is done here.",
    )
    hyperparameters = {
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
        "density": Parameter(
            default=0.1, low=0.0, is_low_open=True, high=1.0, meaning="fraction kept at the start of training"
        ),
        "sigmoid_bias": Parameter(
            default=3.0,
            low=0.0,
            is_low_open=True,
            meaning="score at the start of what is kept; minus it elsewhere",
        ),
        "learning_rate": Parameter(
            default=0.1, low=0.0, meaning="how far a score with a gradient of root mean square moves per step"
        ),
        "num_epochs": Parameter(default=1, low=0, meaning="passes over the calibration samples"),
        "l1_strength": Parameter(default=0.0, low=0.0, meaning="weight of the mean of the soft mask in the loss"),
    }
    prepare_uses = tuple(hyperparameters)

    def prepare(self, context, config):
        """Train a mask per task vector, one after the other, always from the clean base."""
        from .file_tensors import FileTensors
        from .mask_training import trained_masks

        files = FileTensors(context.work_folder)
        tensors = {
            f"mask.{domain}": {name: files.keep(mask) for name, mask in masks.items()}
            for domain, masks in trained_masks(context, config)
        }
        return Prepared(tensors=tensors)

    def update(self, tensor, config, prepared):
        masks = {domain: prepared.tensor(f"mask.{domain}").float() for domain in tensor.task_vectors.domains}
        stitched = sum(masks[domain] * vector for domain, vector in tensor.task_vectors.items())
        return stitched / sum(masks.values()).clamp(min=1.0)


@hookimpl
def mergebench_register_methods(register):
    register(LocalizeAndStitch())
