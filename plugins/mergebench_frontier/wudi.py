"""WUDI-Merging (arXiv:2503.08099): gradient steps against interference with the specialists' inputs."""

from mergebench_core import MergingMethod, MethodInfo, Parameter, hookimpl

FIDELITY = (
    "Checked against Adam written out in float64, with gradients by automatic differentiation of the objective as "
    "the paper writes it. Start, optimiser, learning rate and steps as in the released code, and tensors that are "
    "no linear weights are averaged. The gradient 2 (tau C - B) is taken from sums C, B formed once in float64: "
    "one product a step instead of two for each specialist."
)
HYPERPARAMETERS = {
    "num_steps": Parameter(default=300, low=1, meaning="steps of Adam for each weight"),
    "learning_rate": Parameter(default=1e-5, low=0.0, is_low_open=True, meaning="learning rate of Adam"),
}


class Wudi(MergingMethod):
    info = MethodInfo(
        name="wudi",
        title="WUDI-Merging",
        paper_url="https://arxiv.org/abs/2503.08099",
        depth="tensor",
        determinism="tolerance",
        formula="linear: tau after num_steps of Adam from the sum of task vectors, on the loss "
        "sum_t |(tau - tau_t) tau_t^T|_F^2 / |tau_t|_F^2; others: mean of task vectors",
        cost="one pass; one weight of all models in memory, an in x in matrix in float64 and fp32, Adam's two "
        "moments; num_steps products (out x in) (in x in) per matrix: hours for 1 B parameters without a GPU",
        fidelity=FIDELITY,
    )
    hyperparameters = HYPERPARAMETERS

    def update(self, tensor, config, prepared):
        from .interference import normal_equations

        if tensor.role != "linear":
            return sum(tensor.task_vectors) / len(tensor.task_vectors)
        curvature, target = normal_equations(list(tensor.task_vectors))
        start = sum(tensor.task_vectors).to(target)
        moved = descend(start @ curvature - target, curvature, config["num_steps"], config["learning_rate"])
        return (start + moved).float()


def descend(residual, curvature, num_steps: int, learning_rate: float):
    """Return how far Adam moves, in fp32, on the gradient `2 (moved C + residual)`; (out, in).

    Counting from the start keeps the gradient's digits: `tau C` and `B` nearly cancel.
    """
    import torch

    residual, curvature = residual.float(), curvature.float()
    moved = torch.nn.Parameter(torch.zeros_like(residual))
    optimizer = torch.optim.Adam([moved], lr=learning_rate, fused=True)
    with torch.no_grad():
        for _ in range(num_steps):
            moved.grad = 2 * (moved @ curvature + residual)
            optimizer.step()
    return moved.detach()


@hookimpl
def mergebench_register_methods(register):
    register(Wudi())
