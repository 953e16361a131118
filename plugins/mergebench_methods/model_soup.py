"""Model Soup (arXiv:2203.05482): the plain mean of the specialists."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl


class ModelSoup(MergingMethod):
    info = MethodInfo(name="model_soup", title="Model Soup", paper_url="https://arxiv.org/abs/2203.05482")

    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors) / len(tensor.task_vectors)


@hookimpl
def mergebench_register_methods(register):
    register(ModelSoup())
