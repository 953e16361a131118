"""Settings of the libraries that evaluation stands on: offline and quiet. Must come before they are imported."""

from __future__ import annotations

import logging
import os
import sys

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_set_here: set[str] = set()


def settle_libraries() -> None:
    """Keep transformers, datasets and lm-eval off network and screen, unless the user said otherwise."""
    for name in _OFFLINE:
        if name not in os.environ:
            os.environ[name] = "1"
            _set_here.add(name)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


def allow_network() -> None:
    """Take back what `settle_libraries` forbade, also in libraries that are loaded; the user's word stands."""
    for name in _set_here:
        os.environ.pop(name, None)
    if "HF_HUB_OFFLINE" in _set_here:
        for module in ("huggingface_hub.constants", "datasets.config"):
            if module in sys.modules:
                sys.modules[module].HF_HUB_OFFLINE = False  # type: ignore[attr-defined]
    _set_here.clear()
