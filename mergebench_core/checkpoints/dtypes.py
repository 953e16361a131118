"""The dtypes a checkpoint may store, as torch knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergebench_core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
MERGEABLE = ("F32", "F16", "BF16")


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a safetensors dtype name.

    Raises:
        CheckpointError: a dtype that is not supported.
    """
    import torch

    if name not in TORCH_NAMES:
        raise CheckpointError(f"dtype {name} is not supported; supported are {', '.join(TORCH_NAMES)}")
    dtype = getattr(torch, TORCH_NAMES[name])
    assert isinstance(dtype, torch.dtype)
    return dtype


def safetensors_name(dtype: torch.dtype) -> str:
    """Return the safetensors name of a torch dtype.

    Raises:
        CheckpointError: a dtype that is not supported.
    """
    names = {value: name for name, value in TORCH_NAMES.items()}
    name = str(dtype).removeprefix("torch.")
    if name not in names:
        raise CheckpointError(f"dtype {dtype} is not supported; supported are {', '.join(names)}")
    return names[name]
