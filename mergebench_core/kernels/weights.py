"""Kernels on plain values: rounding an update into the base, finiteness."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from mergebench_core.kernels.library import kernels
from mergebench_core.kernels.sources import Place, dtype_number, short_file, source_of

if TYPE_CHECKING:
    import torch


def merged_values(base: torch.Tensor | Place, update: torch.Tensor, coefficient: float) -> torch.Tensor:
    """Return `round(base + coefficient * update)`: an fp32 product, an fp32 sum, one rounding to the base's dtype.

    Product and sum stay separate operations: a fused multiply-add would round once less on some processors.
    `update` may lie in memory that another process writes; what is returned is a copy.

    Raises:
        CheckpointError: the base's file became shorter meanwhile.
    """
    import torch

    library = kernels()
    if library is None or dtype_number(base.dtype) is None:
        assert isinstance(base, torch.Tensor)
        return (update * coefficient).add_(base.float()).to(base.dtype)
    out = torch.empty(update.shape, dtype=base.dtype)
    source = source_of(base)
    status = library.apply_update(
        ctypes.addressof(source), update.data_ptr(), coefficient, update.numel(), out.data_ptr()
    )
    if status < 0:
        raise short_file([base], update.numel())
    return out


def is_finite(values: torch.Tensor) -> bool:
    """Return whether a contiguous CPU tensor holds neither NaN nor infinity.

    Without kernels, smallest and largest value tell (both are NaN if any value is): many times faster than
    `torch.isfinite` of every element.
    """
    import torch

    if not values.is_floating_point() or values.numel() == 0:
        return True
    library, number = kernels(), dtype_number(values.dtype)
    if library is None or number is None:
        return bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())
    return bool(library.all_finite(values.data_ptr(), number, values.numel()))
