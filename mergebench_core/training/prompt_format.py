"""The one format in which the paper's specialists are asked: the Alpaca format, as they were trained on it."""

from __future__ import annotations

RESPONSE_HEADING = "### Response:\n"
_REQUEST = "Write a response that appropriately completes the request."
_OPENING = f"Below is an instruction that describes a task. {_REQUEST}"
_OPENING_WITH_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    + _REQUEST
)


def instruction_prompt(instruction: str, context: str = "") -> str:
    """Return the prompt for `instruction`; it ends with a line break, where the response begins.

    The text is that of Axolotl's type `gpteacher` (`GPTeacherPrompter`), which the released training file
    `scripts/llama-3.1-8b_code.yaml` of uiuctml/MergeBench (commit b245648) names. The loaders for merging in the
    same repository (`merging/taskloader.py`) differ in two ways that are not followed here: every line of their
    indented literals but the first carries eight spaces, and they open with the words about an input even where
    there is none. `context` (empty: none) gets a section of its own.
    """
    if context:
        parts = [_OPENING_WITH_CONTEXT, f"### Instruction:\n{instruction}", f"### Input:\n{context}"]
    else:
        parts = [_OPENING, f"### Instruction:\n{instruction}"]
    return "\n\n".join([*parts, RESPONSE_HEADING])
