"""`rotina embeddings` over files of texts, with a scripted embedding server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rotina.cli import cli
from rotina.errors import InvalidInputError, KnowledgeError, SettingsError
from tests.scripted_model import ScriptedModel

PEDIDO = "o pedido não chegou"
INVOICE = "the invoice is wrong"
ROWS: list[dict[str, Any]] = [
    {"text": PEDIDO, "label": "order", "id": "pedido-1"},
    {"text": INVOICE, "label": "invoice", "id": "invoice-1"},
    {"text": PEDIDO, "label": "order", "id": "pedido-2"},
    {"text": INVOICE, "label": "invoice", "id": "invoice-2"},
    {"text": PEDIDO, "id": "pedido-3"},
    {"text": INVOICE, "id": "invoice-3", "other": 1},
]

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Runs `rotina embeddings …` in a folder with rows.jsonl."""
    write(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    async with ScriptedModel() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("ROTINA_MODEL", "tiny")
        monkeypatch.setenv("ROTINA_EMBEDDING_MODEL", "tiny-embed")

        async def call(*arguments: str) -> Result:
            given = ["embeddings", *arguments]
            return await asyncio.to_thread(CliRunner().invoke, cli, given)

        yield call


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def lines_of(printed: Result) -> list[dict[str, Any]]:
    assert printed.exit_code == 0, printed.output + str(printed.exception)
    return [json.loads(line) for line in printed.stdout.splitlines()]


async def test_rows_without_a_label_get_their_neighbours(run: Run) -> None:
    first, second = lines_of(await run("classify", "--texts", "rows.jsonl", "--json"))
    assert (first["id"], first["label"]) == ("pedido-3", "order")
    assert (second["id"], second["label"]) == ("invoice-3", "invoice")
    assert first["text"] == PEDIDO
    assert first["confidence"] > 0.9
    assert {near["id"] for near in first["neighbours"][:2]} == {"pedido-1", "pedido-2"}


async def test_labels_from_another_file(run: Run) -> None:
    write(Path("new.jsonl"), [{"text": INVOICE, "label": "ignored"}])
    found = await run("classify", "--texts", "new.jsonl", "--examples", "rows.jsonl", "--json")
    (line,) = lines_of(found)
    assert (line["id"], line["label"]) == ("1", "invoice")


async def test_a_text_of_the_command_line(run: Run) -> None:
    found = await run("classify", "--examples", "rows.jsonl", "--text", PEDIDO)
    assert found.exit_code == 0
    assert "order" in found.output


async def test_how_good_the_labels_are(run: Run) -> None:
    asked = ("--neighbours", "1", "--check", "--json")
    (line,) = lines_of(await run("classify", "--texts", "rows.jsonl", *asked))
    assert line == {"labelled": 4, "labels": 2, "own_label": 1.0}


async def test_topics(run: Run) -> None:
    (found,) = lines_of(await run("cluster", "--texts", "rows.jsonl", "-k", "2", "--json"))
    assert sorted(topic["label"] for topic in found["topics"]) == [
        "chegou, pedido",
        "invoice, wrong",
    ]
    topic_of = {row["id"]: row["topic"] for row in found["rows"]}
    assert topic_of["pedido-1"] == topic_of["pedido-2"] == topic_of["pedido-3"]
    assert topic_of["pedido-1"] != topic_of["invoice-1"]
    table = await run("cluster", "--texts", "rows.jsonl")
    assert "chegou, pedido" in table.output
    assert "2 topics" in table.output


async def test_recommendations_leave_out_what_is_given(run: Run) -> None:
    asked = ("recommend", "--texts", "rows.jsonl", "--like", "pedido-1", "--unlike", "invoice-1")
    found = lines_of(await run(*asked, "-k", "2", "--json"))
    assert {line["id"] for line in found} == {"pedido-2", "pedido-3"}
    assert "pedido-2" in (await run(*asked)).output


async def test_more_like_a_text(run: Run) -> None:
    asked = ("--like-text", INVOICE, "--unlike-text", PEDIDO, "-k", "3", "--json")
    found = lines_of(await run("recommend", "--texts", "rows.jsonl", *asked))
    assert {line["id"] for line in found} == {"invoice-1", "invoice-2", "invoice-3"}


async def test_anomalies(run: Run) -> None:
    write(Path("odd.jsonl"), [{"text": PEDIDO}] * 9 + [{"text": "ursos-polares", "id": "bear"}])
    (found,) = lines_of(await run("anomalies", "--texts", "odd.jsonl", "--json"))
    assert [each["id"] for each in found["found"]] == ["bear"]
    assert found["rows"] == 10
    table = await run("anomalies", "--texts", "odd.jsonl")
    assert "ursos-polares" in table.output
    assert "1 of 10 rows stand out" in table.output


async def test_drift(run: Run) -> None:
    write(Path("before.jsonl"), [{"text": PEDIDO}] * 12)
    write(Path("after.jsonl"), [{"text": INVOICE}] * 12)
    asked = ("drift", "--before-texts", "before.jsonl", "--after-texts")
    (found,) = lines_of(await run(*asked, "after.jsonl", "--json"))
    assert found["drifted"]
    assert found["newest"][0]["text"] == INVOICE
    assert "they differ" in (await run(*asked, "after.jsonl")).output
    assert "no difference shown" in (await run(*asked, "before.jsonl")).output


async def test_diversity(run: Run) -> None:
    (found,) = lines_of(await run("diversity", "--texts", "rows.jsonl", "--json"))
    assert found["near_pairs"] == 6
    assert 1 < found["vendi"] <= 2.001
    assert found["pairs"][0]["similarity"] == pytest.approx(1)
    assert (
        "6 pairs with a cosine of at least 0.9"
        in (await run("diversity", "--texts", "rows.jsonl")).output
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "line 1: text: Field required"),
        ('{"text": "  "}', "line 1: text: String should match"),
        ('{"text": 3}', "line 1: text: Input should be a valid string"),
        ("[1]", "line 1: it: Input should be a valid dictionary"),
        ("text", "line 1 is not JSON"),
        ("\n\n", "bad.jsonl has no rows"),
    ],
)
async def test_a_malformed_file_is_refused(run: Run, line: str, message: str) -> None:
    Path("bad.jsonl").write_text(line, encoding="utf-8")
    found = await run("cluster", "--texts", "bad.jsonl")
    assert isinstance(found.exception, InvalidInputError)
    assert message in str(found.exception)


async def test_a_file_in_another_encoding_is_refused(run: Run) -> None:
    Path("bad.jsonl").write_bytes('{"text": "não"}'.encode("latin-1"))
    found = await run("cluster", "--texts", "bad.jsonl")
    assert isinstance(found.exception, InvalidInputError)
    assert "cannot be read as UTF-8" in str(found.exception)


async def test_too_many_rows_are_refused_before_they_are_embedded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotina.knowledge.analysis.rows.MAX_ROWS", 5)
    found = await run("cluster", "--texts", "rows.jsonl")
    assert isinstance(found.exception, KnowledgeError)
    assert "more than 5 rows: take a sample" in str(found.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster"], "Give COLLECTION, or --texts FILE"),
        (["cluster", "faq", "--texts", "rows.jsonl"], "Give COLLECTION, or --texts FILE"),
        (["cluster", "--texts", "rows.jsonl", "--filter", "a=1"], "--filter and --label are for"),
        (["cluster", "--texts", "none.jsonl"], "'none.jsonl' does not exist"),
        (["recommend", "--texts", "rows.jsonl"], "--like ID or --like-text"),
        (["drift", "faq"], "what comes before and what after"),
        (["drift", "faq", "--after-filter", "week=2"], "what comes before and what after"),
        (["drift", "--before-texts", "rows.jsonl"], "Give COLLECTION, or --texts FILE"),
    ],
)
async def test_wrong_usage(run: Run, arguments: list[str], message: str) -> None:
    found = await run(*arguments)
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["recommend", "--like", "pedido"], KnowledgeError, "3 rows have the id 'pedido'"),
        (["recommend", "--like", "x"], KnowledgeError, "No row is 'x': give an id that one row"),
        (["classify", "--text", " "], InvalidInputError, "A text is empty"),
        (["cluster", "-k", "3"], KnowledgeError, "k is 3, and there are 2 different rows in 6"),
    ],
)
async def test_what_cannot_be_done_says_why(
    run: Run, arguments: list[str], error: type[Exception], message: str
) -> None:
    found = await run(*arguments, "--texts", "rows.jsonl")
    assert isinstance(found.exception, error)
    assert message in str(found.exception)


async def test_nothing_labelled_and_nothing_to_label(run: Run) -> None:
    write(Path("plain.jsonl"), [{"text": PEDIDO}])
    found = await run("classify", "--texts", "plain.jsonl")
    assert "No row has a label" in str(found.exception)
    write(Path("full.jsonl"), ROWS[:2])
    found = await run("classify", "--texts", "full.jsonl")
    assert "Every row has a label already" in str(found.exception)


async def test_no_collection_without_a_database(run: Run) -> None:
    found = await run("cluster", "faq")
    assert isinstance(found.exception, SettingsError)
    assert "DATABASE_URL" in str(found.exception)
