"""ticket_triage and daily_digest with real workers: cited answers, tickets, figures."""

import json
from typing import Any

import psycopg
import pytest

from tests.acceptance.help_center import load_help_center
from tests.acceptance.ledger import rows
from tests.acceptance.scripts import cites, proven_answer
from tests.acceptance.stack import Stack
from tests.scripted_model import Request

pytestmark = pytest.mark.usefixtures("replayed")

ANSWERS = (
    ("warranty of 12 months", "The warranty is 12 months."),
    ("garantia de 12 meses", "A garantia é de 12 meses."),
)


def shop(request: Request) -> dict[str, Any] | None:
    """What a good model would say, and once what a bad one would."""
    properties = (request.schema or {}).get("properties", {})
    if "label" in properties:
        return {"label": _label(properties["label"]["enum"], request.last_message)}
    if "answers" in properties:
        return {"why": "it says so", "answers": True}
    if "sentences" not in properties:
        return None
    if "report?" in request.last_message:
        return cites(1, "A blender is broken.", "77 are broken.")
    return proven_answer(request.last_message, ANSWERS)


def _label(names: list[str], text: str) -> str:
    broken = "broken" in text or "quebrad" in text
    if "positive" in names:
        return "negative" if broken else "neutral"
    if "urgent" in names:
        return "urgent" if "fraud" in text else "normal"
    return "damaged_product" if broken else "product_question"


@pytest.fixture
def desk(processes: Stack) -> Stack:
    """A worker, a scripted model, and the help centre in two collections."""
    url = processes.model("tests.acceptance.test_triage:shop", delay=0.1)
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": url,
        "ROTINA_MODEL": "scripted",
        "ROTINA_EMBEDDING_MODEL": "scripted",
    }
    processes.worker()
    load_help_center(processes.environment)
    return processes


def triage(stack: Stack, message: str) -> dict[str, Any]:
    done = stack.run("run", "ticket_triage", "--input", json.dumps({"message": message}), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


@pytest.mark.parametrize(
    ("message", "language", "said", "quote"),
    [
        ("How long is the warranty of a kettle?", "en", *reversed(ANSWERS[0])),
        ("Qual é o prazo de garantia da chaleira?", "pt", *reversed(ANSWERS[1])),
    ],
)
def test_a_question_is_answered_with_a_citation(
    desk: Stack, database_url: str, message: str, language: str, said: str, quote: str
) -> None:
    result = triage(desk, message)
    assert (result["outcome"], result["language"]) == ("answered", language)
    assert result["answer"]["text"] == said
    [sentence] = result["answer"]["sentences"]
    [citation] = sentence["citations"]
    with psycopg.connect(database_url) as connection:
        # Row-level security holds the owner, too.
        connection.execute("select set_config('rotina.tenant', 'default', false)")
        document = connection.execute(
            "select text from rotina.document where id = %s", (citation["document_id"],)
        ).fetchone()
    assert document is not None
    assert document[0][citation["start"] : citation["end"]] == citation["quote"]
    assert quote in citation["quote"]
    assert rows(database_url, "select 1 from ticket") == []
    with psycopg.connect(database_url) as connection:
        connection.execute("select set_config('rotina.tenant', 'default', false)")
        place = connection.execute(
            "select c.name, d.uri from rotina.document d join rotina.collection c "
            "on c.id = d.collection_id where d.id = %s",
            (citation["document_id"],),
        ).fetchone()
    assert place is not None
    cited = desk.run("kb", "cited", *place, "--json")
    told = [json.loads(line) for line in cited.stdout.splitlines()]
    assert [each["quoted"] for each in told if each["workflow"] == "ticket_triage"] == [True]
    again = [
        {json.loads(line)["again"] for line in rerun.stdout.splitlines()}
        for rerun in (desk.run("kb", "cited", *place, "--rerun", "--json") for _ in range(2))
    ]
    started = {str(row["id"]) for row in rows(database_url, "select id from rotina.run")}
    assert len(again[0]) == len(told), "the run that answered, and the one that read the file"
    assert again[0] < started
    assert again[0] <= again[1], "asked twice for the same version, one run"


def test_a_damaged_product_is_for_a_person(desk: Stack, database_url: str) -> None:
    result = triage(desk, "O liquidificador chegou quebrado.")
    assert result["outcome"] == "person"
    assert result["intent"]["label"] == "damaged_product"
    assert result["answer"] is None
    [ticket] = rows(database_url, "select * from ticket")
    assert ticket["id"] == result["ticket"]
    assert (ticket["source"], ticket["topic"], ticket["language"]) == (
        "triage",
        "damaged_product",
        "pt",
    )


def test_what_is_not_proven_goes_to_a_person(desk: Stack, database_url: str) -> None:
    """Nothing in the help centre says so, and the model's answer has no proof."""
    result = triage(desk, "Do you sell garden gnomes?")
    assert result["outcome"] == "person"
    assert result["reason"] == "the help centre has no proven answer"
    assert len(rows(database_url, "select 1 from ticket")) == 1


def test_the_digest_counts_and_drops_invented_figures(desk: Stack, database_url: str) -> None:
    triage(desk, "The blender arrived broken.")
    with psycopg.connect(database_url) as connection:
        connection.execute("update ticket set created_at = '2025-03-30 23:30+00'")
        connection.execute(
            "update rotina.run set created_at = '2025-03-30 23:30+00' "
            "where workflow = 'ticket_triage'"
        )
    told = {}
    # 23:30 UTC on the 30th is the 31st in Lisbon, on its first summer day.
    for day, zone in (("2025-03-30", "UTC"), ("2025-03-30", "Europe/Lisbon")):
        wanted = json.dumps({"day": day, "time_zone": zone})
        done = desk.run("run", "daily_digest", "--input", wanted, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        told[zone] = json.loads(done.stdout)["result"]
    assert told["UTC"]["figures"] == ["ticket_triage: 1 succeeded", "tickets: 1"]
    [sentence] = told["UTC"]["tickets"]["sentences"]
    assert sentence["text"] == "A blender is broken."
    assert sentence["citations"][0]["document"].startswith("ticket ")
    assert told["UTC"]["tickets"]["dropped"] == ["77 are broken."]
    assert told["Europe/Lisbon"]["figures"] == ["tickets: 0"]
    assert told["Europe/Lisbon"]["tickets"] is None


def test_a_digest_of_no_zone_is_refused(desk: Stack) -> None:
    done = desk.run("run", "daily_digest", "--input", '{"time_zone": "Mars/Olympus"}')
    assert done.returncode == 1
    assert "'Mars/Olympus' is no time zone" in done.stderr
