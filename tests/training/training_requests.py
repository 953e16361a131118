"""Small trainings, and what is asked of their folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from mergebench_core.training.bases import StartingModel
from mergebench_core.training.plan import TrainingRequest

NUM_STEPS = 4


def request_of(base: StartingModel, out: Path, **changes: Any) -> TrainingRequest:
    """Return a request for four steps with a checkpoint after each second one."""
    wanted = {"domain": "coding", "num_steps": NUM_STEPS, "num_steps_between_saves": 2, "per_device_batch_size": 2}
    return TrainingRequest(base=base, out=out, **{**wanted, **changes})


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def are_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def interrupt_at(step: int) -> Callable[[str], None]:
    """Return progress that presses Ctrl-C after a step."""

    def tell(message: str) -> None:
        if f"step {step} of" in message:
            raise KeyboardInterrupt

    return tell
