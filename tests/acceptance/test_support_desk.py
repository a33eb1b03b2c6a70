"""The support desk with a real worker: citations, tools and confirmations."""

import json
import re
from typing import Any

import psycopg
import pytest

from tests.acceptance.help_center import HELP_CENTER, load_help_center
from tests.acceptance.ledger import rows
from tests.acceptance.scripts import proven_answer
from tests.acceptance.stack import Stack
from tests.scripted_model import Request

pytestmark = pytest.mark.usefixtures("replayed")

ANSWERS = (
    ("warranty of 12 months", "The warranty is 12 months."),
    ("garantia de 12 meses", "A garantia é de 12 meses."),
)


def desk_model(request: Request) -> dict[str, Any] | None:
    """Decides as a good model would; asked about gnomes, it invents."""
    schema = request.schema or {}
    if "anyOf" in schema:
        return _decision(request.last_message.rpartition("Last message: ")[2])
    if "answers" in schema.get("properties", {}):
        return {"why": "it says so", "answers": True}
    if "sentences" in schema.get("properties", {}):
        return proven_answer(request.last_message, ANSWERS)
    return None


def _decision(text: str) -> dict[str, Any]:
    if number := re.search(r"AU-?\d+", text):
        return {"action": "order_status", "arguments": {"number": number.group()}}
    if "order" in text:
        # A number that the customer never wrote.
        return {"action": "order_status", "arguments": {"number": "AU-20311"}}
    if "chamado" in text or "ticket" in text:
        arguments = {"topic": "product", "message": "A torradeira não liga.", "number": None}
        return {"action": "open_ticket", "arguments": arguments}
    return {"action": "answer", "question": text}


@pytest.fixture
def desk(processes: Stack, database_url: str) -> Stack:
    """A worker, the help centre in both languages, and three orders."""
    return open_desk(processes, database_url, delay=0.2)


def open_desk(processes: Stack, database_url: str, *, delay: float) -> Stack:
    """The same with a model that takes `delay` seconds for each answer."""
    url = processes.model("tests.acceptance.test_support_desk:desk_model", delay=delay)
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": url,
        "ROTINA_MODEL": "scripted",
        "ROTINA_EMBEDDING_MODEL": "scripted",
    }
    with psycopg.connect(database_url) as connection:
        connection.execute((HELP_CENTER / "orders.sql").read_bytes())
    processes.worker()
    load_help_center(processes.environment)
    return processes


def talk(stack: Stack, *texts: str, customer: str = "ana@example.com") -> list[dict[str, Any]]:
    """The replies to a conversation."""
    said = [part for text in texts for part in ("--message", text)]
    done = stack.run("chat", "support", "--customer", customer, "--json", *said)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_answers_carry_citations_in_the_customers_language(desk: Stack) -> None:
    for text, wanted in (
        ("How long is the warranty?", ANSWERS[0]),
        ("Qual é o prazo de garantia?", ANSWERS[1]),
    ):
        [reply] = talk(desk, text)
        assert reply["text"] == wanted[1]
        assert reply["data"]["status"] == "answered"
        [citation] = reply["data"]["citations"]
        assert wanted[0] in citation["quote"]
        assert citation["end"] - citation["start"] == len(citation["quote"])


def test_what_the_sources_do_not_say_is_not_said(desk: Stack, database_url: str) -> None:
    """An invented answer is dropped, and a person is offered; yes makes a ticket."""
    unknown, handed = talk(desk, "Do you sell garden gnomes?", "yes")
    assert unknown["data"]["status"] == "unknown"
    assert unknown["data"]["citations"] == []
    assert unknown["data"]["dropped"] == ["Yes, we sell garden gnomes."]
    assert unknown["text"].startswith("I don't know")
    assert handed["data"]["status"] == "handed_over"
    assert [row["source"] for row in rows(database_url, "select source from ticket")] == [
        "handover"
    ]


def test_an_order_is_looked_up_by_the_number_the_customer_wrote(desk: Stack) -> None:
    asked, told = talk(desk, "Where is my order?", "It is AU-20311")
    assert asked["data"]["status"] == "needs", "a number that a model made up is refused"
    assert "AU-20311" not in asked["text"]
    assert told["data"]["status"] == "told"
    assert told["data"]["result"]["status"] == "shipped"
    [other] = talk(desk, "Where is AU-20311?", customer="john@example.com")
    assert other["data"]["result"] == {"number": "AU-20311", "found": False}


@pytest.mark.parametrize(
    ("consent", "status", "tickets"), [("sim", "done", 1), ("não", "declined", 0)]
)
def test_an_effect_waits_for_a_yes(
    desk: Stack, database_url: str, consent: str, status: str, tickets: int
) -> None:
    asked, settled = talk(desk, "Quero abrir um chamado: a torradeira não liga.", consent)
    assert asked["data"]["status"] == "asked"
    assert settled["data"]["status"] == status
    assert len(rows(database_url, "select 1 from ticket")) == tickets


def test_another_tenant_has_no_such_thread(desk: Stack) -> None:
    [reply] = talk(desk, "How long is the warranty?")
    desk.environment = {**desk.environment, "ROTINA_TENANT": "other"}
    thread = reply["thread_id"]
    value = json.dumps({"thread": thread, "text": "hello"})
    for door in (
        ("chat", "support", "--thread", thread, "--message", "hello"),
        ("run", "support_desk", "--input", value),
    ):
        refused = desk.run(*door)
        assert refused.returncode == 1
        assert f"ThreadNotFoundError: There is no thread {thread}" in refused.stderr
