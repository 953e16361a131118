"""A prompt that is too long loses its beginning only where the track says so; lm-eval cuts it silently."""

from __future__ import annotations

from typing import Any

from mergebench_core.errors import InputError


def refuse_long(language_model_class: Any) -> Any:
    """Return a kind of lm-eval's `LM` that raises InputError where the given one would cut a prompt."""
    from lm_eval.models.utils import normalize_gen_kwargs

    class Unabridged(language_model_class):  # type: ignore[misc]
        """Counts the tokens of each request first."""

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            for context, arguments in (request.args for request in requests):
                room = self.max_length - normalize_gen_kwargs(arguments, self.max_gen_toks)["max_gen_toks"]
                self._refuse(context, len(self.tok_encode(context)), room)
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

        def _loglikelihood_tokens(self, requests: Any, *others: Any, **settings: Any) -> Any:
            for texts, context, continuation in requests:
                # the shortest of the limits of lm-eval's wrappers: vLLM's needs a token to generate
                self._refuse("".join(texts or ()), len(context) + len(continuation), self.max_length - 1)
            return super()._loglikelihood_tokens(requests, *others, **settings)

        def _refuse(self, text: str, num_tokens: int, limit: int) -> None:
            if num_tokens > limit:
                raise InputError(
                    f"a prompt has {num_tokens} tokens where the track has room for {limit}: {text[:60]!r}; "
                    "shorten it, or raise the track's max_length"
                )

    return Unabridged
