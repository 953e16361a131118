"""Start the leaderboard over `board.duckdb` beside this file, or the snapshot that MERGEBENCH_BOARD names."""

from __future__ import annotations

import os
from pathlib import Path

from mergebench_leaderboard.app import launch

if __name__ == "__main__":
    launch(
        Path(os.environ.get("MERGEBENCH_BOARD") or Path(__file__).with_name("board.duckdb")),
        host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    )
