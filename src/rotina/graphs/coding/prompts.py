"""Prompts of coding. System prompt and examples are constant, for prefix caches."""

import json
from typing import Any

from rotina.gateway import Message
from rotina.graphs.coding.coding import Attempt
from rotina.graphs.coding.source import Example, tests_from

CODE = """\
You write Python 3.11 with the standard library only, without network, threads or processes. \
Answer with one block of code and nothing else: the whole module, functions with type hints, \
no tests, no example calls, no input()."""

CASES = """\
You write test cases for Python code that somebody else will write, in one line of compact JSON: \
{"cases":[{"call":"f(1)","equals":"2"},{"call":"f(None)","raises":"TypeError"}]}
call: a Python expression that calls what the task names. equals: a Python expression for what it \
returns. raises: the exception it ends with.
Three to six cases, each different. Only what the task says, with values you are sure of."""
MOST_CASES = 6

_LEAP = "Write is_leap(year): whether a year of the Gregorian calendar is a leap year."
_LEAP_CASES: tuple[Example, ...] = (
    {"call": "is_leap(2024)", "equals": "True"},
    {"call": "is_leap(2023)", "equals": "False"},
    {"call": "is_leap(1900)", "equals": "False"},
)
_LEAP_CODE = """\
def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
"""
_INITIALS = (
    "Escreva iniciais(nome): as iniciais do nome em maiúsculas, sem de, da, do, dos e das; "
    "TypeError se não for texto."
)
_INITIALS_CASES: tuple[Example, ...] = (
    {"call": 'iniciais("João da Silva")', "equals": '"JS"'},
    {"call": 'iniciais("ana souza")', "equals": '"AS"'},
    {"call": "iniciais(None)", "raises": "TypeError"},
)
_INITIALS_CODE = """\
PARTICULAS = {"de", "da", "do", "dos", "das"}


def iniciais(nome: str) -> str:
    if not isinstance(nome, str):
        raise TypeError("o nome deve ser um texto")
    partes = [parte for parte in nome.split() if parte.lower() not in PARTICULAS]
    return "".join(parte[0].upper() for parte in partes)
"""
_OUTPUT = 1500
"""Characters of a failure that the model sees: its end says what is wrong."""


def block(code: str) -> str:
    """Code as a fenced block."""
    return f"```python\n{code.strip()}\n```"


def cases_schema() -> dict[str, Any]:
    """Test cases, few and short: small models would go on and on."""
    return {
        "type": "object",
        "properties": {
            "cases": {
                "type": "array",
                "maxItems": MOST_CASES,
                "items": {"anyOf": [_case_schema("equals"), _case_schema("raises")]},
            }
        },
        "required": ["cases"],
        "additionalProperties": False,
    }


def _case_schema(end: str) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 200}
    return {
        "type": "object",
        "properties": {"call": text, end: text},
        "required": ["call", end],
        "additionalProperties": False,
    }


def cases_messages(task: str, instructions: str) -> list[Message]:
    """The conversation that asks for test cases."""
    conversation: list[Message] = [
        {"role": "system", "content": f"{CASES}\n{instructions.strip()}".strip()}
    ]
    for shown, cases in ((_LEAP, _LEAP_CASES), (_INITIALS, _INITIALS_CASES)):
        told = json.dumps({"cases": cases}, ensure_ascii=False, separators=(",", ":"))
        conversation.append({"role": "user", "content": shown})
        conversation.append({"role": "assistant", "content": told})
    conversation.append({"role": "user", "content": task.strip()})
    return conversation


def code_messages(
    task: str, tests: str, instructions: str, last: Attempt | None = None
) -> list[Message]:
    """The conversation that asks for code, or for a repair of the last attempt."""
    conversation: list[Message] = [
        {"role": "system", "content": f"{CODE}\n{instructions.strip()}".strip()},
        {"role": "user", "content": _asked(_LEAP, tests_from(_LEAP_CASES))},
        {"role": "assistant", "content": block(_LEAP_CODE)},
        {"role": "user", "content": _asked(_INITIALS, tests_from(_INITIALS_CASES))},
        {"role": "assistant", "content": block(_INITIALS_CODE)},
        {"role": "user", "content": _asked(task, tests)},
    ]
    if last is not None:
        conversation.append({"role": "assistant", "content": block(last.code or "…")})
        conversation.append({"role": "user", "content": _complaint(last)})
    return conversation


def _asked(task: str, tests: str) -> str:
    return f"{task.strip()}\n\nIt must pass these tests:\n{block(tests)}" if tests else task.strip()


def _complaint(last: Attempt) -> str:
    if last.outcome == "no_code":
        return f"{last.output[-_OUTPUT:]}\nAnswer with one short block of Python code only."
    return (
        f"This did not pass ({last.outcome}):\n{last.output[-_OUTPUT:]}\n\n"
        "Find the mistake and answer with the whole corrected module in one block."
    )
