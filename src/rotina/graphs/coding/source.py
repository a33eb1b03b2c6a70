"""Finds the Python code in a model's answer."""

import ast
import re

_BLOCK = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_of(answer: str) -> str | None:
    """The longest block of code, or the whole answer when it is a Python module; else None.

    A block need not be free of errors: what is wrong with it is for the tests to say.
    """
    blocks: list[str] = [block.strip() for block in _BLOCK.findall(answer)]
    if any(blocks):
        return max(blocks, key=lambda block: (_defines(block), len(block))) + "\n"
    return answer.strip() + "\n" if _defines(answer) else None


def tests_of(answer: str) -> str | None:
    """The code in the answer, if it tests something."""
    code = code_of(answer)
    return code if code and _defines(code) and ("def test" in code or "assert" in code) else None


def fault_of(code: str) -> str | None:
    """Why the code is not Python, or None."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _defines(code: str) -> bool:
    """Whether it is Python and more than an expression: a word of prose is an expression too."""
    if fault_of(code):
        return False
    return any(not isinstance(statement, ast.Expr) for statement in ast.parse(code).body)
