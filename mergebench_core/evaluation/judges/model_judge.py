"""Judges whose verdicts are read off what a language model writes about each exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.errors import EngineError, InputError
from mergebench_core.evaluation.judges.factory import UNPINNED, JudgeSettings
from mergebench_core.evaluation.judges.generator import (
    Generator,
    TransformersGenerator,
    VllmGenerator,
    find_device,
)
from mergebench_core.evaluation.judges.judge import Exchange, Verdict
from mergebench_core.evaluation.libraries import allow_network
from mergebench_core.hub import fetch

MAX_UNPARSED = 0.05
"""Share of a call's answers that may be unreadable."""
SPARE_TOKENS = 8
"""Kept free where an answer is cut: its tokens may come out a little different inside the prompt."""
UNKNOWN = Verdict(is_refusal=None, is_harmful=None)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """How a model is asked, and how its answer is read."""

    template: str
    """The prompt, with `{request}` and `{answer}`."""
    parse: Callable[[str], Verdict | None]
    """Returns the verdict that a text of the model gives, None if it gives none."""
    max_tokens: int
    """Tokens that the model writes at most."""
    max_answer_tokens: int | None = None
    """Tokens of an answer that the judge reads, from its beginning; None for all that its context holds."""

    def prompt(self, request: str, answer: str) -> str:
        """Return the prompt for one exchange."""
        return self.template.format(request=request, answer=answer)


class ModelJudge:
    """A judge with a model behind it; `num_unparsed` and `num_cut` count over its life.

    An answer that is too long keeps its beginning. An exchange whose request alone fills the context is not judged
    and counts as unparsed.
    """

    def __init__(
        self,
        *,
        name: str,
        revision: str,
        instruction: Instruction,
        generator: Generator,
        progress: Callable[[str], None],
    ) -> None:
        self.name = name
        self.revision = revision
        self.num_unparsed = 0
        self.num_cut = 0
        self._instruction = instruction
        self._generator = generator
        self._progress = progress

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Return a verdict for each exchange, in order; one that cannot be read says nothing.

        Raises:
            MergebenchError: the model cannot be loaded here.
            EngineError: more than 5% of what the model wrote is no verdict.
        """
        num_cut = self.num_cut
        prompts = [self._prompt(exchange) for exchange in exchanges]
        if self.num_cut > num_cut:
            self._progress(
                f"judge {self.name}: {self.num_cut - num_cut} long answers are judged by their beginning"
            )
        written = iter(self._written([prompt for prompt in prompts if prompt is not None]))
        texts = [None if prompt is None else next(written) for prompt in prompts]
        verdicts = [None if text is None else self._instruction.parse(text) for text in texts]
        self._check([text for text, verdict in zip(texts, verdicts, strict=True) if verdict is None], len(texts))
        return [verdict or UNKNOWN for verdict in verdicts]

    def park(self) -> None:
        """Free the accelerator's memory; the next exchanges take it again."""
        self._generator.park()

    def _written(self, prompts: list[str]) -> list[str]:
        return self._generator.generate(prompts, self._instruction.max_tokens) if prompts else []

    def _prompt(self, exchange: Exchange) -> str | None:
        """Return the prompt with as much of the answer as the context holds, None if it holds nothing of it."""
        instruction, generator = self._instruction, self._generator
        answer = exchange.answer
        if instruction.max_answer_tokens is not None:
            answer = generator.cut(answer, instruction.max_answer_tokens)
        room = generator.context_tokens - instruction.max_tokens
        prompt = instruction.prompt(exchange.request, answer)
        if generator.num_tokens(prompt) > room:
            room -= generator.num_tokens(instruction.prompt(exchange.request, "")) + SPARE_TOKENS
            answer = generator.cut(answer, room)
            if not answer:
                return None
            prompt = instruction.prompt(exchange.request, answer)
        self.num_cut += answer != exchange.answer
        return prompt

    def _check(self, unparsed: list[str | None], num_exchanges: int) -> None:
        """Report verdicts that could not be read; too many of them are an error."""
        if not unparsed:
            return
        self.num_unparsed += len(unparsed)
        sample = "request too long for its context" if unparsed[0] is None else repr(unparsed[0][:80])
        told = (
            f"judge {self.name}: {len(unparsed)} of {num_exchanges} verdicts could not be read, such as {sample}"
        )
        if len(unparsed) > MAX_UNPARSED * num_exchanges:
            raise EngineError(f"{told}; check that its model at revision {self.revision} is the right one")
        self._progress(told)


@dataclass(frozen=True, kw_only=True)
class ModelJudgeFactory:
    """Fetches a judge's model from the Hub and opens the judge."""

    name: str
    title: str
    repo: str
    instruction: Instruction
    revision: str = UNPINNED
    needs: frozenset[str] = frozenset({"gpu"})
    says_refusals: bool = True

    def open(self, settings: JudgeSettings) -> ModelJudge:
        """Return the judge, its model fetched; its revision is the model's commit.

        Raises:
            InputError: it needs a GPU, there is none, and the CPU was not asked for.
            CheckpointError: the model cannot be fetched.
        """
        self.check(settings)
        allow_network()
        folder, commit = fetch(self.repo, settings.revision, settings.progress)
        return ModelJudge(
            name=self.name,
            revision=commit,
            instruction=self.instruction,
            generator=_generator(folder, settings),
            progress=settings.progress,
        )

    def check(self, settings: JudgeSettings) -> None:
        """Check that this machine has what the judge needs.

        Raises:
            InputError: it needs a GPU, there is none, and the CPU was not asked for.
        """
        has_gpu = find_device(settings.device) != "cpu"
        if settings.engine == "vllm" and not has_gpu:
            raise InputError(f"judge {self.name}: the engine vllm needs a GPU, and there is none; choose hf")
        if settings.device is None and "gpu" in self.needs and not has_gpu:
            raise InputError(
                f"judge {self.name} needs a GPU, and there is none; --judge chooses one that needs none, such as "
                "refusal_phrases, whose scores are not comparable"
            )


def _generator(folder: Path, settings: JudgeSettings) -> Generator:
    if settings.engine == "vllm":
        return VllmGenerator(folder, settings.gpu_memory_fraction)
    return TransformersGenerator(folder, settings.device)
