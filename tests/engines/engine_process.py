"""Holds the engine vllm, on the stand-in, until it is killed: `engine_process.py MODEL HOME start|run`.

The stand-in gets a process of its own, as the real vLLM has one; its id goes to `HOME/engine.pid`. With `start`,
vLLM never finishes to start.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path


def main() -> None:
    """Start the engine and wait."""
    import fake_vllm

    from mergebench_core.evaluation.engines import vllm
    from mergebench_core.evaluation.engines.work_folder import WorkFolder
    from mergebench_core.tracks.track import EvaluationSettings

    model, home, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    fake_vllm.write_metadata(home)
    sys.path.insert(0, str(home))
    sys.modules |= fake_vllm.modules()
    vllm.require_vllm = lambda: None
    start = fake_vllm.LLM.__init__

    def start_process(self, *arguments, **settings) -> None:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        process.start()
        (home / "partial").write_text(str(process.pid))
        (home / "partial").rename(home / "engine.pid")
        if moment == "start":
            time.sleep(600)
        start(self, *arguments, **settings)

    fake_vllm.LLM.__init__ = start_process
    work = WorkFolder(home / "work")
    engine = vllm.VllmEngine(
        model, EvaluationSettings(batch_size=8, max_length=64, num_threads=1), work_folder=work.path
    )
    engine.language_model()
    (home / "started").touch()
    time.sleep(600)


if __name__ == "__main__":
    main()
