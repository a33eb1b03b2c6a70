"""The support desk where things overlap: two messages at once, one instead of a yes."""

import pytest

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack
from tests.acceptance.test_support_desk import open_desk, talk

pytestmark = pytest.mark.slow

NEWEST = "select id, state, attempts from rotina.run where workflow = 'support_desk' order by id"


@pytest.fixture
def slow_desk(processes: Stack, database_url: str) -> Stack:
    """A worker whose model takes a second for each answer."""
    return open_desk(processes, database_url, delay=1.0)


def say(stack: Stack, name: str, thread: str, text: str) -> None:
    """Say something without waiting for the reply."""
    stack.rotina(name, "chat", "support_desk", "--thread", thread, "--message", text, "--json")


def wait(stack: Stack, name: str) -> None:
    """Until what was said has been answered."""
    assert stack._running.pop(name).wait(60) == 0, stack.log(name)


def test_a_second_message_waits_for_the_reply_to_the_first(
    slow_desk: Stack, database_url: str
) -> None:
    [hello] = talk(slow_desk, "Where is AU-20311?")
    thread = hello["thread_id"]
    say(slow_desk, "first", thread, "How long is the warranty?")
    slow_desk.wait_for(
        "the first message to be worked on",
        lambda: [run["state"] for run in rows(database_url, NEWEST)] == ["succeeded", "running"],
    )
    say(slow_desk, "second", thread, "Where is AU-20288?")
    wait(slow_desk, "first")
    wait(slow_desk, "second")
    said = rows(database_url, "select role, run_id, text from rotina.message order by id")
    runs = [run["id"] for run in rows(database_url, NEWEST)]
    replies = [line for line in said if line["role"] == "assistant"]
    assert [line["run_id"] for line in replies] == runs, "each answered once, in turn"
    assert "12 months" in replies[1]["text"]
    assert "AU-20288" in replies[2]["text"]
    assert {run["attempts"] for run in rows(database_url, NEWEST)} == {1}, "waiting is no attempt"


def test_another_message_drops_what_waits_for_a_yes(slow_desk: Stack, database_url: str) -> None:
    asked, other, late = talk(
        slow_desk,
        "Quero abrir um chamado: a torradeira não liga.",
        "Qual é o prazo de garantia?",
        "Onde está o AU-20311?",
    )
    assert asked["data"]["status"] == "asked"
    assert "12 meses" in other["text"]
    assert "Não fui adiante com: abrir um chamado" in other["text"]
    assert "abrir um chamado" not in late["text"]
    assert rows(database_url, "select 1 from ticket") == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("invoice_intake", "--message", "hi"), "InvalidInputError"),
        (("nothing", "--message", "hi"), "UnknownWorkflowError"),
        (
            ("support", "--thread", "019a0000-0000-7000-8000-000000000000", "--message", "hi"),
            "ThreadNotFoundError",
        ),
    ],
)
def test_chat_says_what_is_wrong(processes: Stack, arguments: tuple[str, ...], error: str) -> None:
    done = processes.run("chat", *arguments)
    assert done.returncode == 1
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_chat_gives_up_waiting_but_the_message_is_kept(processes: Stack, database_url: str) -> None:
    done = processes.run("chat", "support", "--message", "oi", "--timeout", "0.5")
    assert done.returncode == 1
    assert "The message is safe" in done.stderr
    said = rows(database_url, "select text from rotina.message")
    assert [line["text"] for line in said] == ["oi"]
