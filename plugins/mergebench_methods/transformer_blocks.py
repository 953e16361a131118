"""The blocks of a transformers decoder, run one at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mergebench_core.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a decoder hands to its blocks for one batch."""

    hidden: torch.Tensor
    """[samples, length, features]: input of the first block."""
    arguments: tuple[Mapping[str, object], ...]
    """By block, what it is called with besides: position embeddings, attention mask, ..."""


class Blocks:
    """The blocks of a causal language model, from the input on."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Find the blocks: the longest list of modules that has as many members as the model has layers.

        Raises:
            CheckpointError: there is no such list.
        """
        config = model.config.get_text_config()
        lists = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) == config.num_hidden_layers
        }
        if not lists:
            raise CheckpointError(
                f"{type(model).__name__} has no list of {config.num_hidden_layers} blocks; "
                "merge it with a method that does not go block by block"
            )
        self.prefix = min(lists, key=len)
        self._model = model
        self._blocks = lists[self.prefix]

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> torch.nn.Module:
        return self._blocks[number]

    def name(self, number: int, parameter: str) -> str:
        """Return the name that a block's parameter has in the checkpoint."""
        return f"{self.prefix}.{number}.{parameter}"

    def copy_of(self, number: int, source) -> torch.nn.Module:
        """Return a copy of a block with the weights of `source`, a lazy model."""
        block = copy.deepcopy(self._blocks[number])
        with torch.no_grad():
            for name, parameter in block.named_parameters():
                parameter.copy_(source.tensor(self.name(number, name)))
        return block

    def enter(self, tokens: torch.Tensor) -> Entry:
        """Return what the blocks are called with for `tokens` [samples, length], running none of them."""
        hidden: list[torch.Tensor] = []
        arguments: list[Mapping[str, object]] = []

        def note(hidden_states, **others):
            hidden.append(hidden_states)
            arguments.append(others)
            return hidden_states

        for block in self._blocks:
            block.forward = note
        try:
            with torch.no_grad():
                self._model.base_model(input_ids=tokens, use_cache=False)
        finally:
            for block in self._blocks:
                del block.forward
        return Entry(hidden=hidden[0], arguments=tuple(arguments))
