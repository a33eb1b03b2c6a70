"""Finds the Python code in a model's answer."""

import ast
import re
import sys
from collections.abc import Sequence
from typing import NotRequired, TypedDict


class Example(TypedDict):
    """A call, and what it returns or raises: Python expressions."""

    call: str
    equals: NotRequired[str]
    raises: NotRequired[str]


_BLOCK = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_IMPORTS = """\
import datetime
import math
from datetime import date, timedelta
from decimal import Decimal

from solution import *"""
_RAISES = """\
    try:
        {call}
    except {name}:
        return
    raise AssertionError("it did not raise {name}")"""


def code_of(answer: str) -> str | None:
    """The longest block of code, or the whole answer when it is a Python module; else None.

    A block need not be free of errors: what is wrong with it is for the tests to say.
    """
    blocks: list[str] = [block.strip() for block in _BLOCK.findall(answer)]
    if any(blocks):
        return max(blocks, key=lambda block: (_defines(block), len(block))) + "\n"
    return answer.strip() + "\n" if _defines(answer) else None


def tests_from(cases: Sequence[Example]) -> str:
    """Tests made of a model's cases, without those that are no Python; empty when none is left."""
    distinct = {(case["call"], case.get("equals"), case.get("raises")): case for case in cases}
    bodies = [body for case in distinct.values() if (body := _body(case))]
    tests = [f"def test_{number}():\n{body}" for number, body in enumerate(bodies, start=1)]
    return "\n\n\n".join([_IMPORTS, *tests]) + "\n" if tests else ""


def _body(case: Example) -> str | None:
    call, equals, raises = case["call"].strip(), case.get("equals"), case.get("raises")
    if not _is_expression(call):
        return None
    if raises is not None:
        name = raises.strip()
        return _RAISES.format(call=call, name=name) if _NAME.fullmatch(name) else None
    wanted = (equals or "").strip()
    return f"    assert ({call}) == ({wanted})" if _is_expression(wanted) else None


def _is_expression(text: str) -> bool:
    """Whether it is one Python expression, and cannot be more when it is put into a line."""
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return "\n" not in text and "#" not in text


def fault_of(code: str) -> str | None:
    """Why the code is not Python, or None."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def absent_modules(tests: str) -> list[str]:
    """What tests import, without a condition, that is not there when they run."""
    names: set[str] = set()
    for statement in ast.parse(tests).body:
        if isinstance(statement, ast.Import):
            names |= {each.name.partition(".")[0] for each in statement.names}
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            names.add((statement.module or "").partition(".")[0])
    return sorted(names - {"solution"} - sys.stdlib_module_names)


def _defines(code: str) -> bool:
    """Whether it is Python and more than an expression: a word of prose is an expression too."""
    if fault_of(code):
        return False
    return any(not isinstance(statement, ast.Expr) for statement in ast.parse(code).body)
