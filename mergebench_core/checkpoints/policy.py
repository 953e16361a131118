"""Which tensors a merge touches, and whether the models fit together there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.dtypes import MERGEABLE
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.checkpoints.roles import is_buffer, role_of
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.weights import is_finite
from mergebench_core.methods import Role


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The tensors of the base that a method merges, in file order, and those that stay the base's."""

    merged: tuple[TensorEntry, ...]
    left_out: tuple[TensorEntry, ...]


def merge_plan(base: Checkpoint, base_roles: frozenset[Role]) -> MergePlan:
    """Split the base's tensors: those of `base_roles`, buffers, and any that hold no floats stay the base's."""
    merged: list[TensorEntry] = []
    left_out: list[TensorEntry] = []
    for entry in base.entries.values():
        stays = (
            role_of(entry.name, entry.shape) in base_roles
            or entry.dtype not in MERGEABLE
            or is_buffer(entry.name, entry.shape)
        )
        (left_out if stays else merged).append(entry)
    return MergePlan(merged=tuple(merged), left_out=tuple(left_out))


def check_specialists(
    base: Checkpoint, specialists: Mapping[str, Checkpoint], base_roles: frozenset[Role]
) -> None:
    """Check that every specialist fits the base, and that all are finite where the policy merges.

    Raises:
        CheckpointError: naming the specialist and the tensor.
    """
    plan = merge_plan(base, base_roles)
    for domain, specialist in specialists.items():
        check_fit(base, specialist, base_roles, specialist_label(domain, specialist))
    check_finite(base, list(base.names), f"base ({base.path})")
    for domain, specialist in specialists.items():
        check_finite(specialist, [entry.name for entry in plan.merged], specialist_label(domain, specialist))


def specialist_label(domain: str, specialist: Checkpoint) -> str:
    """Return how messages name a specialist."""
    return f"specialist '{domain}' ({specialist.path})"


def check_fit(base: Checkpoint, specialist: Checkpoint, base_roles: frozenset[Role], where: str) -> None:
    """Check that a specialist has every tensor that is merged, in the base's shape, and no weight besides.

    Sharding, order and floating dtype (F32, F16, BF16) may differ: values are merged in fp32. Tensors of
    `base_roles` may be missing, extra or of another shape: they stay the base's. Extra buffers and extra tensors
    without floats are ignored.

    Raises:
        CheckpointError: naming the tensor.
    """
    for entry in merge_plan(base, base_roles).merged:
        found = _check_shape(entry, specialist.entries.get(entry.name), where)
        if found.dtype not in MERGEABLE:
            raise CheckpointError(
                f"{where}: tensor '{entry.name}' is {found.dtype}, the base is {entry.dtype}; give the model in "
                f"one of {', '.join(MERGEABLE)}, not quantised"
            )
    if extra := [entry.name for entry in extra_weights(base, specialist, base_roles)]:
        raise CheckpointError(f"{where}: has tensor '{extra[0]}', which the base does not have; {_REMEDY}")


def extra_weights(base: Checkpoint, specialist: Checkpoint, base_roles: frozenset[Role]) -> list[TensorEntry]:
    """Return the learned tensors of a specialist that the base lacks and that no base role covers."""
    return [
        entry
        for name, entry in specialist.entries.items()
        if name not in base.entries
        and role_of(name, entry.shape) not in base_roles
        and entry.dtype in (*MERGEABLE, "F64")
        and not is_buffer(name, entry.shape)
    ]


_REMEDY = "was it fine-tuned from this base?"


def _check_shape(expected: TensorEntry, found: TensorEntry | None, where: str) -> TensorEntry:
    if found is None:
        is_head = role_of(expected.name, expected.shape) == "head"
        remedy = "is it tied to the embeddings? The method merges the head: save it untied" if is_head else _REMEDY
        raise CheckpointError(f"{where}: tensor '{expected.name}' is missing; {remedy}")
    if found.shape != expected.shape:
        raise CheckpointError(
            f"{where}: tensor '{expected.name}' has shape {list(found.shape)}, "
            f"the base has {list(expected.shape)}; {_REMEDY}"
        )
    return found


def check_compatible(base: Checkpoint, model: Checkpoint, where: str) -> None:
    """Check that a whole model has exactly the base's names, shapes and dtypes, and is finite.

    Raises:
        CheckpointError: naming what differs.
    """
    for name, entry in base.entries.items():
        found = _check_shape(entry, model.entries.get(name), where)
        if found.dtype != entry.dtype:
            raise CheckpointError(
                f"{where}: tensor '{name}' is {found.dtype}, the base is {entry.dtype}; convert it"
            )
    if extra := [name for name in model.names if name not in base.entries]:
        raise CheckpointError(f"{where}: has tensor '{extra[0]}', which the base does not have; {_REMEDY}")
    check_finite(model, list(model.names), where)


def check_finite(model: Checkpoint, names: list[str], where: str) -> None:
    """Check that the tensors hold no NaN and no infinity.

    Raises:
        CheckpointError: naming the first tensor that does.
    """
    for name in names:
        for piece in pieces(model.entry(name)):
            if not is_finite(model.read(name, piece.offset, piece.numel)):
                raise CheckpointError(
                    f"{where}: tensor '{name}' holds NaN or infinity; such a model cannot be used"
                )
