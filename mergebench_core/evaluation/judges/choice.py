"""Which judge a world has: its name stands in the track, its revision is fixed before anything is scored."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from mergebench_core.errors import InputError
from mergebench_core.hub import Progress
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
    if not getattr(factory, "says_refusals", True):
        raise InputError(
            f"judge {name} says nothing of refusals, by which the safety tasks are scored; "
            "choose another, such as wildguard"
        )
    return factory


def open_judge(track: Track, progress: Progress) -> tuple[Track, Judge | None]:
    """Return the track with its judge's revision, and the judge; None where no task is judged.

    Raises:
        InputError: no such judge, one that says nothing of refusals, or its model cannot be fetched.
    """
    from mergebench_core.evaluation.engines.vllm import FRACTION_VARIABLE
    from mergebench_core.evaluation.judges.factory import JudgeSettings

    factory = check_judge(track)
    if factory is None or track.judge is None:
        return track, None
    revision = track.judge.partition("@")[2]
    if factory.repo is not None and track.engine == "vllm" and FRACTION_VARIABLE not in os.environ:
        os.environ[FRACTION_VARIABLE] = SHARED_FRACTION
        progress(f"vLLM takes {SHARED_FRACTION} of the GPU, a judge shares it; {FRACTION_VARIABLE} changes that")
    judge = factory.open(JudgeSettings(revision=revision or None, engine="hf", progress=progress))
    return dataclasses.replace(track, judge=f"{judge.name}@{judge.revision}"), judge
