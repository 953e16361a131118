"""Model Soup (arXiv:2203.05482): the plain mean of the specialists."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl
from mergebench_core.kernels.updates import mean_of_task_vectors


class ModelSoup(MergingMethod):
    info = MethodInfo(
        name="model_soup",
        title="Model Soup",
        paper_url="https://arxiv.org/abs/2203.05482",
        formula="sum of tau_t / number of tasks",
        cost="one pass over the models; one chunk of each in memory",
        fidelity="Checked on numbers worked by hand; specialists that are all the same merge to themselves. The "
        "released code makes it as Task Arithmetic with coefficient 0.2 in bf16, that is "
        "task_arithmetic_mergebench_compat; both leave embeddings and head to the base.",
    )

    def update(self, tensor, config, prepared):
        return mean_of_task_vectors(tensor)


@hookimpl
def mergebench_register_methods(register):
    register(ModelSoup())
