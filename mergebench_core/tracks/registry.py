"""The tracks that exist, by name."""

from __future__ import annotations

from mergebench_core.errors import unknown_name
from mergebench_core.tracks.track import Track

TRACK_NAMES = ("mini-v1",)


def load_track(name: str) -> Track:
    """Return the track called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in TRACK_NAMES:
        raise unknown_name("track", name, TRACK_NAMES, "`mergebench tracks` lists them.")
    from mergebench_core.tracks.mini_v1 import load

    return load()
