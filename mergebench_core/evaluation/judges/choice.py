"""Which judge a world has: its name stands in the track, its revision is fixed before anything is scored."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.errors import InputError
from mergebench_core.evaluation.judges.factory import UNPINNED, JudgeSettings
from mergebench_core.hub import Progress
from mergebench_core.tracks.mergebench_v1.fetching import fetch_model
from mergebench_core.tracks.mergebench_v1.lock import Lock, read_lock
from mergebench_core.tracks.track import Track

SHARED_FRACTION = "0.6"
"""Of a GPU's memory for vLLM where a judge's model lives beside it."""

if TYPE_CHECKING:
    from mergebench_core.evaluation.judges.factory import JudgeFactory
    from mergebench_core.evaluation.judges.judge import Judge


def check_judge(track: Track) -> JudgeFactory | None:
    """Return what makes the track's judge, unopened; None where no task is judged.

    Raises:
        InputError: no such judge, or one that says nothing of refusals.
    """
    if track.judge is None:
        return None
    from mergebench_core.evaluation.judges.registry import find_judge

    name = track.judge.partition("@")[0]
    factory = find_judge(name)
    if not _says_refusals(factory):
        raise InputError(
            f"judge {name} says nothing of refusals, by which the safety tasks are scored; "
            "choose another, such as wildguard"
        )
    return factory


def fetch_judge(track: Track, home: Path, progress: Progress) -> str | None:
    """Fetch the model of the track's judge and return its commit; None for a judge that no commit fixes.

    It is the revision that the track names, else the lock's, else the noted one, else the latest, which is then
    noted.

    Raises:
        InputError: no such judge, or one that says nothing of refusals.
        CheckpointError: its model cannot be fetched, is damaged, or differs from the lock.
    """
    factory = check_judge(track)
    if factory is None or factory.repo is None or factory.revision != UNPINNED:
        return None
    wanted = _revision(track)
    lock = Lock() if wanted else read_lock()
    _, commit = fetch_model(factory.repo, wanted or lock.revisions().get(factory.repo), lock, home, progress)
    return commit


def open_judge(track: Track, home: Path, progress: Progress) -> tuple[Track, Judge | None]:
    """Return the track with its judge's revision, and the judge; None where no task is judged.

    Raises:
        InputError: no such judge, one that says nothing of refusals, or this machine lacks what it needs.
        CheckpointError: as of `fetch_judge`.
    """
    from mergebench_core.evaluation.engines.vllm import FRACTION_VARIABLE
    from mergebench_core.evaluation.judges.model_judge import ModelJudgeFactory

    factory = check_judge(track)
    if factory is None:
        return track, None
    if factory.repo is not None and track.engine == "vllm" and FRACTION_VARIABLE not in os.environ:
        os.environ[FRACTION_VARIABLE] = SHARED_FRACTION
        progress(f"vLLM takes {SHARED_FRACTION} of the GPU, a judge shares it; {FRACTION_VARIABLE} changes that")
    settings = JudgeSettings(revision=_revision(track), engine="hf", progress=progress)
    if isinstance(factory, ModelJudgeFactory):
        factory.check(settings)  # before gigabytes are fetched
    commit = fetch_judge(track, home, progress)
    judge = factory.open(dataclasses.replace(settings, revision=commit) if commit else settings)
    return dataclasses.replace(track, judge=f"{judge.name}@{judge.revision}"), judge


def judge_repos() -> list[str]:
    """Return the repositories of the bundled judges that can score a track: what its lock pins."""
    from mergebench_core.evaluation.judges.registry import bundled_judges

    return [factory.repo for factory in bundled_judges() if factory.repo and _says_refusals(factory)]


def _revision(track: Track) -> str | None:
    """Return the revision of the judge that the track names, None where it names none."""
    return (track.judge or "").partition("@")[2] or None


def _says_refusals(factory: JudgeFactory) -> bool:
    return bool(getattr(factory, "says_refusals", True))
