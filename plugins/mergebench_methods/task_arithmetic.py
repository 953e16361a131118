"""Task Arithmetic (arXiv:2212.04089): base + scaling_coefficient * sum of task vectors."""

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, grid, hookimpl
from mergebench_core.kernels.updates import sum_of_task_vectors


class TaskArithmetic(MergingMethod):
    info = MethodInfo(
        name="task_arithmetic",
        title="Task Arithmetic",
        paper_url="https://arxiv.org/abs/2212.04089",
        needs={"validation"},
        formula="sum of tau_t",
        cost="one pass over the models; one chunk of each in memory; a new coefficient costs no pass",
        fidelity="Checked on numbers worked by hand. Sums in fp32 and rounds once; the released code rounds to "
        "bf16 at every step: task_arithmetic_mergebench_compat.",
    )
    hyperparameters = {"scaling_coefficient": SCALING_COEFFICIENT}
    search_space = grid(scaling_coefficient=[i / 10 for i in range(1, 11)])
    linear_in = "scaling_coefficient"

    def update(self, tensor, config, prepared):
        return sum_of_task_vectors(tensor)


@hookimpl
def mergebench_register_methods(register):
    register(TaskArithmetic())
