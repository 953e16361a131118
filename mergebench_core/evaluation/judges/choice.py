"""Which judge a world has: its name stands in the track, its revision is fixed before anything is scored."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mergebench_core.hub import Progress
from mergebench_core.tracks.track import Track

if TYPE_CHECKING:
    from mergebench_core.evaluation.judges.judge import Judge


def open_judge(track: Track, progress: Progress) -> tuple[Track, Judge | None]:
    """Return the track with its judge's revision, and the judge; None where no task is judged.

    Raises:
        InputError: no such judge, or its model cannot be fetched.
    """
    if track.judge is None:
        return track, None
    from mergebench_core.evaluation.judges.factory import JudgeSettings
    from mergebench_core.evaluation.judges.registry import find_judge

    name, _, revision = track.judge.partition("@")
    settings = JudgeSettings(revision=revision or None, engine="hf", progress=progress)
    judge = find_judge(name).open(settings)
    return dataclasses.replace(track, judge=f"{judge.name}@{judge.revision}"), judge
