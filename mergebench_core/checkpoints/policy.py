"""Which tensors a merge touches, and whether the models fit together there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.dtypes import MERGEABLE
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.checkpoints.roles import role_of
from mergebench_core.errors import CheckpointError
from mergebench_core.methods import Role


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The tensors of the base that a method merges, in file order, and those that stay the base's."""

    merged: tuple[TensorEntry, ...]
    left_out: tuple[TensorEntry, ...]


def merge_plan(base: Checkpoint, base_roles: frozenset[Role]) -> MergePlan:
    """Split the base's tensors by role: those of `base_roles`, and any that hold no floats, stay the base's."""
    merged: list[TensorEntry] = []
    left_out: list[TensorEntry] = []
    for entry in base.entries.values():
        stays = role_of(entry.name, entry.shape) in base_roles or entry.dtype not in MERGEABLE
        (left_out if stays else merged).append(entry)
    return MergePlan(merged=tuple(merged), left_out=tuple(left_out))


def check_specialists(
    base: Checkpoint, specialists: Mapping[str, Checkpoint], base_roles: frozenset[Role]
) -> None:
    """Check that the base is finite, and that every specialist fits it and is finite where the policy merges.

    Tensors of `base_roles` may be missing, extra or of another shape: they stay the base's.

    Raises:
        CheckpointError: naming the specialist and the tensor.
    """
    plan = merge_plan(base, base_roles)
    check_finite(base, list(base.names), f"base ({base.path})")
    for domain, specialist in specialists.items():
        where = f"specialist '{domain}' ({specialist.path})"
        for entry in plan.merged:
            check_entry(entry, specialist.entries.get(entry.name), where)
        for name, entry in specialist.entries.items():
            if name not in base.entries and role_of(name, entry.shape) not in base_roles:
                raise CheckpointError(f"{where}: has tensor '{name}', which the base does not have; {_REMEDY}")
        check_finite(specialist, [entry.name for entry in plan.merged], where)


_REMEDY = "was it fine-tuned from this base?"


def check_entry(expected: TensorEntry, found: TensorEntry | None, where: str) -> None:
    """Check one tensor's presence, shape and dtype against the base's.

    Raises:
        CheckpointError: naming what differs.
    """
    if found is None:
        raise CheckpointError(f"{where}: tensor '{expected.name}' is missing; {_REMEDY}")
    if found.shape != expected.shape:
        raise CheckpointError(
            f"{where}: tensor '{expected.name}' has shape {list(found.shape)}, "
            f"the base has {list(expected.shape)}; {_REMEDY}"
        )
    if found.dtype != expected.dtype:
        raise CheckpointError(
            f"{where}: tensor '{expected.name}' is {found.dtype}, the base is {expected.dtype}; convert it"
        )


def check_compatible(base: Checkpoint, model: Checkpoint, where: str) -> None:
    """Check that a whole model has exactly the base's names, shapes and dtypes, and is finite.

    Raises:
        CheckpointError: naming what differs.
    """
    for name, entry in base.entries.items():
        check_entry(entry, model.entries.get(name), where)
    if extra := [name for name in model.names if name not in base.entries]:
        raise CheckpointError(f"{where}: has tensor '{extra[0]}', which the base does not have; {_REMEDY}")
    check_finite(model, list(model.names), where)


def check_finite(model: Checkpoint, names: list[str], where: str) -> None:
    """Check that the tensors hold no NaN and no infinity.

    Raises:
        CheckpointError: naming the first tensor that does.
    """
    import torch

    for name in names:
        for piece in pieces(model.entry(name)):
            if not torch.isfinite(model.read(name, piece.offset, piece.numel)).all():
                raise CheckpointError(
                    f"{where}: tensor '{name}' holds NaN or infinity; such a model cannot be used"
                )
