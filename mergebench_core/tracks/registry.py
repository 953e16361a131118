"""The tracks that exist, by name."""

from __future__ import annotations

from pathlib import Path

from mergebench_core.errors import InputError, unknown_name
from mergebench_core.hub import Progress
from mergebench_core.tracks.track import HubBase, Track
from mergebench_core.tracks.world import WorldOptions

TRACK_NAMES = ("mini-v1", "mergebench-v1")


def load_track(name: str, options: WorldOptions | None = None) -> Track:
    """Return the track called `name`.

    Raises:
        InputError: there is none, or it does not offer what was chosen.
    """
    if name not in TRACK_NAMES:
        raise unknown_name("track", name, TRACK_NAMES, "`mergebench tracks` lists them.")
    options = options or WorldOptions()
    if name == "mini-v1":
        if options != WorldOptions():
            raise InputError("track mini-v1 has one suite, protocol, engine and judge; leave these options out")
        from mergebench_core.tracks import mini_v1

        return mini_v1.load()
    from mergebench_core.tracks import mergebench_v1

    return mergebench_v1.load(options)


def check_access(track: Track, base: str, home: Path, progress: Progress, judge: str | None = None) -> None:
    """Check before hours of fetching that the models of `base`, and a judge's repository, are to be had and fit.

    Raises:
        InputError: the track has no such base.
        CheckpointError: a model cannot be fetched, or there is no room for all.
    """
    found = track.base(base)
    if not isinstance(found, HubBase):
        return
    from mergebench_core.tracks.mergebench_v1.fetching import check_models
    from mergebench_core.tracks.mergebench_v1.lock import read_lock

    repos = [model.repo for model in found.hub_models.values()] + ([judge] if judge else [])
    check_models(repos, read_lock(), home, progress)


def fetch_track(track: Track, base: str, home: Path, progress: Progress) -> Track:
    """Return the track with everything of `base` on this machine; an embedded track as it is.

    Raises:
        InputError: the track has no such base, or something cannot be fetched.
    """
    found = track.base(base)
    if not isinstance(found, HubBase):
        return track
    from mergebench_core.tracks.mergebench_v1.fetching import fetch

    return fetch(track, found, home, progress)
