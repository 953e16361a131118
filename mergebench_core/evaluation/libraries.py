"""Settings of the libraries that evaluation stands on: offline and quiet. Must come before they are imported."""

from __future__ import annotations

import logging
import os


def settle_libraries() -> None:
    """Keep transformers, datasets and lm-eval off network and screen, unless the user said otherwise."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
