"""Model Soup (arXiv:2203.05482): the plain mean of the specialists."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl
from mergebench_core.kernels.updates import mean_of_task_vectors


class ModelSoup(MergingMethod):
    info = MethodInfo(name="model_soup", title="Model Soup", paper_url="https://arxiv.org/abs/2203.05482")

    def update(self, tensor, config, prepared):
        return mean_of_task_vectors(tensor)


@hookimpl
def mergebench_register_methods(register):
    register(ModelSoup())
