"""Task Arithmetic as the released MergeBench code computes it: bf16, rounded at every addition."""

from mergebench_core import SCALING_COEFFICIENT, MergingMethod, MethodInfo, grid, hookimpl

from . import released_code as released


class TaskArithmeticMergebenchCompat(MergingMethod):
    info = MethodInfo(
        name="task_arithmetic_mergebench_compat",
        title="Task Arithmetic (as released)",
        paper_url="https://arxiv.org/abs/2505.10833",
        needs={"validation"},
        base_roles=released.BASE_ROLES,
        variant_of="task_arithmetic",
        formula="base + scaling_coefficient * (((tau_instruction + tau_math) + tau_coding) + ...), "
        "each step rounded to bf16",
        cost="one pass over the models for every configuration; one chunk of each in memory",
        fidelity="Checked to the bit against a dense simulation of the released code on flattened bf16 vectors. "
        "With scaling_coefficient 0.2 it is also the released Model Soup. An all-zero tensor of the base, after "
        "which the released code shifts all that follows, is merged like any other.",
    )
    hyperparameters = {"scaling_coefficient": SCALING_COEFFICIENT}
    search_space = grid(scaling_coefficient=[i / 10 for i in range(1, 11)])

    def merge_tensor(self, tensor, config, prepared):
        if not released.is_written(tensor.name):
            return released.unchanged(tensor)
        return released.added(tensor, config["scaling_coefficient"] * sum(released.task_vectors(tensor).values()))


@hookimpl
def mergebench_register_methods(register):
    register(TaskArithmeticMergebenchCompat())
