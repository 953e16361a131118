"""Task Arithmetic (arXiv:2212.04089): base + scaling_coefficient * sum of task vectors."""

from mergebench_core import MergingMethod, MethodInfo, grid, hookimpl
from mergebench_core.kernels.updates import sum_of_task_vectors


class TaskArithmetic(MergingMethod):
    info = MethodInfo(
        name="task_arithmetic",
        title="Task Arithmetic",
        paper_url="https://arxiv.org/abs/2212.04089",
        needs={"validation"},
    )
    search_space = grid(scaling_coefficient=[i / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        return sum_of_task_vectors(tensor)


@hookimpl
def mergebench_register_methods(register):
    register(TaskArithmetic())
