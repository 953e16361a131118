"""Finds the program in what a model wrote after an open function or a docstring.

A completion is first read as bigcode-evaluation-harness reads it: cut at the first stop sequence and put after
the prompt. Only an answer that gives no program that way, and so could never pass there, is read as a chat answer:
code between fences or after text, the function written out whole, or its body with the indentation lost.
"""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

FENCES = ("```", "~~~")
INDENT = 4
CODE_STARTS = ("def ", "async def ", "class ", "import ", "from ", "@")
MAX_LINES = 400
"""Answers are cut here; one of 512 tokens is hardly ever longer."""
MAX_STARTS = 16
"""Lines that may begin the code in a text; a list of imports is not tried from each."""

_DEFINITIONS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The program that an answer was read as."""

    code: str
    is_literal: bool
    """Whether the harness would have run the same program."""


def read_program(prompt: str, entry_point: str, answer: str, stops: Sequence[str]) -> Reading:
    """Return the program that `answer` makes of `prompt`; the literal one where nothing else gives the function.

    Args:
        prompt: What the model was given: Python source, a function left open or a docstring.
        entry_point: Name of the function.
        answer: What the model wrote after it.
        stops: Stop sequences of the harness.
    """
    answer = answer.replace("\r\n", "\n").replace("\r", "\n")
    literal = prompt + cut(answer, stops)
    if gives_function(literal, entry_point):
        return Reading(code=literal, is_literal=True)
    answer = "\n".join(answer.split("\n")[:MAX_LINES])
    for code in chat_readings(prompt, answer):
        if gives_function(code, entry_point):
            return Reading(code=code, is_literal=False)
    return Reading(code=literal, is_literal=True)


def cut(text: str, stops: Sequence[str]) -> str:
    """Return `text` up to the first stop sequence."""
    return text[: min([len(text), *(at for stop in stops if (at := text.find(stop)) >= 0)])]


def gives_function(code: str, name: str) -> bool:
    """Tell whether `code` is Python that binds `name`, if to a function then to one that does something."""
    tree = parse(code)
    if isinstance(tree, int):
        return False
    bindings = [node for node in tree.body if name in bound_names(node)]
    if not bindings:
        return False
    last = bindings[-1]
    if not isinstance(last, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return True
    return len(last.body) > 1 or not is_docstring(last.body[0])


def parse(code: str) -> ast.Module | int:
    """Return the syntax tree, or the number of the line that is not Python (1 if no line is to blame)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes and the like in what a model wrote
        try:
            tree = ast.parse(code)
            compile(tree, "<answer>", "exec", dont_inherit=True)  # finds a return outside of a function, say
        except SyntaxError as error:
            return max(1, error.lineno or 1)
        except (ValueError, MemoryError, RecursionError):
            return 1
    return tree


def bound_names(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    inner = ast.walk(node)
    return {part.id for part in inner if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def is_docstring(node: ast.stmt) -> bool:
    """Tell whether a statement is a text alone."""
    return (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def chat_readings(prompt: str, answer: str) -> Iterator[str]:
    """Yield the programs that an answer may mean, the likeliest first: whole functions, then bodies."""
    blocks = fenced_blocks(answer)
    wholes = [definitions(block) for block in (*blocks, *longest_code(answer))]
    for whole in filter(None, wholes):
        yield f"{prompt}\n\n{whole}"
        yield whole  # for imports from __future__, which must come first
    for block in blocks or [answer]:
        for body in bodies(block):
            yield f"{prompt.rstrip()}\n{body}"


def fenced_blocks(text: str) -> list[str]:
    """Return what stands between fences; the last one may lack its end."""
    blocks: list[str] = []
    lines: list[str] | None = None
    for line in text.split("\n"):
        if line.strip().startswith(FENCES):
            if lines is not None:
                blocks.append("\n".join(lines))
            lines = [] if lines is None else None
        elif lines is not None:
            lines.append(line)
    return blocks if lines is None else [*blocks, "\n".join(lines)]


def longest_code(text: str) -> Iterator[str]:
    """Yield the code after text: from each line that starts some to the last line with which it is Python."""
    lines = text.split("\n")
    starts = (start for start, line in enumerate(lines) if line.startswith(CODE_STARTS))
    for start in islice(starts, MAX_STARTS):
        if code := longest_python(lines[start:]):
            yield code


def longest_python(lines: Sequence[str]) -> str:
    """Return the first lines that are Python: those before the error, and if it stays those before that."""
    end = len(lines)
    while end:
        code = "\n".join(lines[:end])
        tree = parse(code)
        if not isinstance(tree, int):
            return code
        end = min(end, tree) - 1
    return ""


def definitions(block: str) -> str:
    """Return the definitions, imports and assignments of `block`; empty if it has none or is not Python.

    What else stands in an answer (examples of use, assertions, input loops) is not asked for and may fail.
    """
    block = textwrap.dedent(block)
    tree = parse(block)
    if isinstance(tree, int):
        return ""
    lines = block.split("\n")
    return "\n".join(
        "\n".join(lines[first_line(node) - 1 : node.end_lineno])
        for node in tree.body
        if isinstance(node, _DEFINITIONS)
    )


def first_line(node: ast.stmt) -> int:
    """Return the number of a statement's first line, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def bodies(block: str) -> Iterator[str]:
    """Yield a function's body as it may have been meant: as it is, indented whole, or in its first line only."""
    spaces = "\n".join(expanded(line) for line in block.strip("\n").split("\n"))
    yield spaces
    yield textwrap.indent(textwrap.dedent(spaces), " " * INDENT)
    first, _, rest = spaces.partition("\n")
    yield f"{' ' * INDENT}{first.lstrip()}\n{rest}"


def expanded(line: str) -> str:
    """Return a line whose indentation has spaces for tabs."""
    content = line.lstrip(" \t")
    return line[: len(line) - len(content)].expandtabs(INDENT) + content
