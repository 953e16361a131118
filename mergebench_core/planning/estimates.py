"""What a job costs by the cost table, before anything like it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergebench_core import hub
from mergebench_core.evaluation.judges.choice import check_judge
from mergebench_core.tracks.mergebench_v1 import costs
from mergebench_core.tracks.mergebench_v1.fetching import pinned_commit
from mergebench_core.tracks.mergebench_v1.lock import Lock
from mergebench_core.tracks.track import HubBase, HubModel, Task, Track, TrackBase
from mergebench_core.worker.description import MethodDescription

GIB = 2**30
STREAM_BYTES = 2 * GIB
"""A process with torch, and chunks on their way."""
EMBEDDED_BYTES_PER_PARAMETER = 2


def estimate_s(track: Track, base: HubBase, tasks: Sequence[Task]) -> float:
    """Return how long scoring tasks takes by the cost table, in seconds on one GPU."""
    speed = costs.SPEEDS[track.engine][base.size]
    seconds = 0.0
    for task in tasks:
        tokens = costs.TOKENS[task.name]
        reading = tokens.prompt / speed.prompt_tokens_per_s
        writing = tokens.answer / speed.answer_tokens_per_s
        seconds += task.num_items * (reading + writing)
    return seconds


def evaluation_s(track: Track, base: HubBase) -> float:
    """Return how long loading a model and scoring it on test and generalization tasks takes, in seconds."""
    speed = costs.SPEEDS[track.engine][base.size]
    return estimate_s(track, base, track.tasks_for("test", "generalization")) + speed.load_s


def download_bytes(base: TrackBase | HubBase, lock: Lock, home: Path) -> int:
    """Return the bytes of models that the local cache lacks: by the lock, else by parameters; asks no network."""
    if not isinstance(base, HubBase):
        return 0
    models = base.hub_models.values()
    missing = [model for model in models if hub.cached(model.repo, pinned_commit(model.repo, lock, home)) is None]
    return sum(_hub_bytes(model, lock) for model in missing)


def judge_bytes(track: Track, lock: Lock, home: Path) -> int:
    """Return the bytes of the judge's model if the local cache lacks it, about."""
    factory = check_judge(track)
    if factory is None or factory.repo is None or track.judge is None:
        return 0
    revision = track.judge.partition("@")[2] or pinned_commit(factory.repo, lock, home)
    return costs.JUDGE_BYTES if hub.cached(factory.repo, revision) is None else 0


def model_bytes(base: TrackBase | HubBase) -> int:
    """Return the size of one model's weights, stored as the base is."""
    if isinstance(base, TrackBase):
        return sum(path.stat().st_size for path in base.path.glob("*.safetensors"))
    model = base.hub_models["base"]
    return model.num_parameters * model.bytes_per_parameter


def gpu_bytes(track: Track, base: TrackBase | HubBase) -> int:
    """Return what scoring needs on the GPU, about: weights, a batch of answers with its cache, the judge.

    vLLM fills most of a GPU with its cache; it needs room for the weights and the judge.
    """
    if not isinstance(base, HubBase):
        return 0
    weights = base.hub_models["base"].num_parameters * costs.RESIDENT_BYTES_PER_PARAMETER
    factory = check_judge(track)
    judge = costs.JUDGE_BYTES if factory is not None and factory.repo is not None else 0
    cache = 0 if track.engine == "vllm" else _cache_bytes(track, base)
    return weights + cache + costs.ACTIVATION_BYTES + judge


def memory_bytes(base: TrackBase | HubBase, method: MethodDescription | None) -> int | None:
    """Return the peak memory of a job, or None if nobody knows what its method holds.

    A method that sees the whole model and says nothing of its memory is one of those.
    """
    held = 0.0 if method is None or method.depth != "model" else None
    if method is not None and method.memory_bytes_per_parameter is not None:
        held = method.memory_bytes_per_parameter
    if held is None:
        return None
    return model_bytes(base) + STREAM_BYTES + int(held * _num_parameters(base))


def disk_bytes(track: Track, base: TrackBase | HubBase, method: MethodDescription) -> int:
    """Return the disk that a merge takes: its weights, what `prepare` keeps, an engine's copies of a candidate."""
    kept = (method.disk_bytes_per_parameter or 0.0) * _num_parameters(base)
    copies = 3 if track.engine == "vllm" else 1
    return copies * model_bytes(base) + int(kept)


def _hub_bytes(model: HubModel, lock: Lock) -> int:
    if locked := lock.repos.get(model.repo):
        return sum(file.num_bytes for name, file in locked.files.items() if hub.is_fetched(name))
    return model.num_parameters * model.bytes_per_parameter


def _cache_bytes(track: Track, base: HubBase) -> int:
    """Return the size of keys and values while a batch of the longest answers is generated."""
    longest = max(
        (costs.TOKENS[task.name].prompt + task.decoding.max_tokens for task in track.tasks if task.decoding),
        default=0,
    )
    batch = track.evaluation.generation_batch_size or track.evaluation.batch_size
    return costs.CACHE_BYTES_PER_TOKEN[base.size] * batch * min(longest, track.evaluation.max_length)


def _num_parameters(base: TrackBase | HubBase) -> int:
    if isinstance(base, TrackBase):
        return model_bytes(base) // EMBEDDED_BYTES_PER_PARAMETER
    return base.hub_models["base"].num_parameters
