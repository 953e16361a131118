"""Karcher mean: the Riemannian mean of the specialists' weights, each tensor taken as a point on a sphere."""

from mergebench_core import MergingMethod, MethodInfo, hookimpl

MAX_ITERATIONS = 10
TOLERANCE = 1e-5
"""In radians: the iteration ends with a step shorter than this."""


class Karcher(MergingMethod):
    info = MethodInfo(
        name="karcher",
        title="Karcher Mean",
        paper_url="https://arxiv.org/abs/2603.04972",
        depth="tensor",
        determinism="platform",
        formula="|x| u - base per tensor of weights x_t; |x| = mean_t |x_t|, u = the point of the unit sphere "
        "whose mean squared angle to x_t / |x_t| is least",
        cost="one pass; whole tensors of all models, three of them in float64, and their n x n dot products",
        fidelity="Checked in the tests against an iteration on whole tensors in float64, and by hand. There is "
        "no single source paper; 2603.04972 is what mergekit cites. Start, stop (10 iterations, 1e-5 radians) "
        "and length are mergekit's; the iteration runs on dot products, since every iterate is a sum of the "
        "inputs. Zero tensors have no direction and count only in the mean length, opposite ones pull nowhere.",
    )

    def update(self, tensor, config, prepared):
        import torch

        specialists = list(tensor.specialists)
        merged = torch.zeros_like(tensor.base, dtype=torch.float64)
        for values, factor in zip(specialists, mean_factors(dot_products(specialists)), strict=True):
            merged += values.double() * factor
        return (merged - tensor.base).float()


def dot_products(tensors):
    """Return the float64 [n, n] matrix of dot products of `tensors`."""
    import torch

    products = torch.zeros(len(tensors), len(tensors), dtype=torch.float64)
    for row, one in enumerate(tensors):
        wide = one.double().flatten()
        for column, other in enumerate(tensors[: row + 1]):
            products[row, column] = products[column, row] = torch.dot(wide, other.double().flatten())
    return products


def mean_factors(products):
    """Return what each tensor is multiplied with in the mean, from their float64 [n, n] dot products."""
    lengths = products.diagonal().sqrt()
    nonzero = lengths > 0
    factors = lengths * 0
    if nonzero.any():
        units = lengths[nonzero]
        cosines = products[nonzero][:, nonzero] / units / units[:, None]
        factors[nonzero] = mean_direction(cosines) / units * lengths.mean()
    return factors.tolist()


def mean_direction(cosines):
    """Return the coefficients of unit vectors in their Karcher mean, from their float64 [n, n] cosines."""
    num = len(cosines)
    mean = cosines.new_full((num,), 1 / num)
    if norm(mean, cosines) < TOLERANCE:
        mean = cosines.new_tensor([1.0] + [0.0] * (num - 1))
    mean = mean / norm(mean, cosines)
    for _ in range(MAX_ITERATIONS):
        dots = (cosines @ mean).clamp(-1, 1)
        pulls = angle_over_sine(dots) / num
        step = pulls - (pulls * dots).sum() * mean
        length = norm(step, cosines)
        if length < TOLERANCE:
            break
        mean = length.cos() * mean + length.sin() / length * step
        mean = mean / norm(mean, cosines)
    return mean


def angle_over_sine(dots):
    """Return angle / sin(angle) for cosines; 1 for equal and opposite directions, where no pull is left."""
    sines = (1 - dots * dots).sqrt()
    is_defined = sines > 1e-9
    return (dots.arccos() / sines.where(is_defined, 1)).where(is_defined, 1)


def norm(coefficients, cosines):
    """Return the length of a sum of unit vectors."""
    return (coefficients @ cosines @ coefficients).clamp(min=0).sqrt()


@hookimpl
def mergebench_register_methods(register):
    register(Karcher())
