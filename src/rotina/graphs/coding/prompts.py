"""Prompts of coding. System prompt and examples are constant, for prefix caches."""

from rotina.gateway import Message
from rotina.graphs.coding.coding import Attempt

CODE = """\
You write Python 3.11 with the standard library only, without network, threads or processes. \
Answer with one block of code and nothing else: the whole module, functions with type hints, \
no tests, no example calls, no input()."""

TESTS = """\
You write tests for Python code that somebody else will write. Answer with one block of code and \
nothing else: `from solution import …`, then three to six functions test_… without parameters, \
plain assert, no pytest. Test only what the task says, with values you are sure of."""

_LEAP = "Write is_leap(year): whether a year of the Gregorian calendar is a leap year."
_LEAP_TESTS = """\
from solution import is_leap


def test_every_fourth_year():
    assert is_leap(2024)
    assert not is_leap(2023)


def test_centuries():
    assert not is_leap(1900)
    assert is_leap(2000)
"""
_LEAP_CODE = """\
def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
"""
_INITIALS = "Escreva iniciais(nome): as iniciais do nome em maiúsculas, sem de, da, do, dos e das."
_INITIALS_TESTS = """\
from solution import iniciais


def test_nome_e_sobrenome():
    assert iniciais("ana souza") == "AS"


def test_sem_particulas():
    assert iniciais("João da Silva") == "JS"


def test_vazio():
    assert iniciais("") == ""
"""
_INITIALS_CODE = """\
PARTICULAS = {"de", "da", "do", "dos", "das"}


def iniciais(nome: str) -> str:
    partes = [parte for parte in nome.split() if parte.lower() not in PARTICULAS]
    return "".join(parte[0].upper() for parte in partes)
"""
_OUTPUT = 1500
"""Characters of a failure that the model sees: its end says what is wrong."""


def block(code: str) -> str:
    """Code as a fenced block."""
    return f"```python\n{code.strip()}\n```"


def tests_messages(task: str, instructions: str) -> list[Message]:
    """The conversation that asks for tests."""
    return [
        {"role": "system", "content": f"{TESTS}\n{instructions.strip()}".strip()},
        {"role": "user", "content": _LEAP},
        {"role": "assistant", "content": block(_LEAP_TESTS)},
        {"role": "user", "content": _INITIALS},
        {"role": "assistant", "content": block(_INITIALS_TESTS)},
        {"role": "user", "content": task.strip()},
    ]


def code_messages(
    task: str, tests: str, instructions: str, last: Attempt | None = None
) -> list[Message]:
    """The conversation that asks for code, or for a repair of the last attempt."""
    conversation: list[Message] = [
        {"role": "system", "content": f"{CODE}\n{instructions.strip()}".strip()},
        {"role": "user", "content": _asked(_LEAP, _LEAP_TESTS)},
        {"role": "assistant", "content": block(_LEAP_CODE)},
        {"role": "user", "content": _asked(_INITIALS, _INITIALS_TESTS)},
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
