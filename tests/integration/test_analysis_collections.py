"""The analyses over a collection of the knowledge base, in Python and on the command line."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from rotina.cli import cli
from rotina.database import Pool
from rotina.errors import CollectionNotFoundError, FilterError, KnowledgeError
from rotina.gateway import Gateway
from rotina.knowledge import Document, KnowledgeBase
from rotina.knowledge.analysis import cluster, collection_rows, recommend
from rotina.settings import load_settings
from tests.scripted_model import ScriptedModel

ORDER = "o pedido não chegou"
INVOICE = "the invoice is wrong"


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """What the command line finds in its settings, too."""
    async with ScriptedModel() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("ROTINA_MODEL", "tiny")
        monkeypatch.setenv("ROTINA_EMBEDDING_MODEL", "tiny-embed")
        async with Gateway(load_settings()) as opened:
            yield opened


@pytest.fixture
async def knowledge(pool: Pool, gateway: Gateway) -> KnowledgeBase:
    """Tickets, some of them labelled."""
    base = KnowledgeBase(pool, gateway, "default")
    await base.create("tickets")
    await base.create("empty")
    for number, topic in enumerate(["order", "invoice", "order", "invoice", None, None]):
        text = INVOICE if number % 2 else ORDER
        metadata = {"week": number, **({"topic": topic} if topic else {})}
        await base.add("tickets", document(text, f"{number}.txt"), metadata=metadata)
    return base


def document(text: str, name: str) -> Document:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Document(name=name, media_type="text/plain", sha256=sha256, text=text)


async def test_documents_are_rows(knowledge: KnowledgeBase) -> None:
    rows = await collection_rows(knowledge, "tickets", label="topic")
    assert rows.ids == [f"{number}.txt" for number in range(6)]
    assert rows.texts[:2] == [ORDER, INVOICE]
    assert rows.labels == ["order", "invoice", "order", "invoice", None, None]
    assert cluster(rows.matrix, rows.texts, k=2).labels == [0, 1] * 3
    assert {each.row for each in recommend(rows.matrix, [rows.find("0.txt")], k=2)} == {2, 4}


async def test_a_document_is_the_mean_of_its_chunks(knowledge: KnowledgeBase) -> None:
    paragraphs = [f"{word} " * 400 for word in ("pedido", "fatura", "consulta", "entrega")]
    await knowledge.add("empty", document("\n\n".join(paragraphs), "long.txt"))
    chunks = await collection_rows(knowledge, "empty", by="chunk")
    assert len(chunks) > 1
    (whole,) = (await collection_rows(knowledge, "empty")).matrix
    unit = chunks.matrix / np.linalg.norm(chunks.matrix, axis=1, keepdims=True)
    assert whole == pytest.approx(unit.mean(axis=0), abs=1e-6)


async def test_documents_of_one_name_stay_apart(knowledge: KnowledgeBase) -> None:
    for folder, text in (("a", ORDER), ("b", INVOICE)):
        metadata = {"folder": folder}
        await knowledge.add(
            "empty", document(text, "read.me"), uri=f"{folder}/read.me", metadata=metadata
        )
    rows = await collection_rows(knowledge, "empty")
    assert rows.texts == [ORDER, INVOICE]
    with pytest.raises(KnowledgeError, match=r"2 rows have the id 'read\.me'"):
        rows.find("read.me")


async def test_a_filter_narrows_and_labels_may_be_numbers(knowledge: KnowledgeBase) -> None:
    rows = await collection_rows(knowledge, "tickets", filter={"week": {"$gte": 4}}, label="week")
    assert rows.labels == ["4", "5"]


async def test_what_cannot_be_read_says_why(
    knowledge: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CollectionNotFoundError, match="'none'"):
        await collection_rows(knowledge, "none")
    with pytest.raises(FilterError):
        await collection_rows(knowledge, "tickets", filter={"$nor": 1})
    with pytest.raises(KnowledgeError, match="'empty' has no documents: add some"):
        await collection_rows(knowledge, "empty")
    with pytest.raises(KnowledgeError, match="has no documents behind the filter"):
        await collection_rows(knowledge, "tickets", filter={"week": 9})
    await knowledge.add("tickets", document("x y z", "odd.txt"), metadata={"tags": ["a"]})
    with pytest.raises(KnowledgeError, match="'tags' holds list"):
        await collection_rows(knowledge, "tickets", label="tags")
    monkeypatch.setattr("rotina.knowledge.analysis.matrix.MAX_ROWS", 6)
    with pytest.raises(KnowledgeError, match=r"'tickets' has 7 rows of .* at most 6 fit"):
        await collection_rows(knowledge, "tickets")


async def test_another_tenants_collection_is_not_there(
    knowledge: KnowledgeBase, pool: Pool, gateway: Gateway
) -> None:
    with pytest.raises(CollectionNotFoundError):
        await collection_rows(KnowledgeBase(pool, gateway, "other"), "tickets")


async def test_the_command_line(
    knowledge: KnowledgeBase, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, ["embeddings", *arguments])

    def lines(printed: Result) -> list[dict[str, Any]]:
        assert printed.exit_code == 0, printed.output + str(printed.exception)
        return [json.loads(line) for line in printed.stdout.splitlines()]

    labelled = lines(await run("classify", "tickets", "--label", "topic", "--json"))
    assert {line["id"]: line["label"] for line in labelled} == {
        "4.txt": "order",
        "5.txt": "invoice",
    }
    asked = ("--label", "topic", "--text", INVOICE, "--neighbours", "2", "--json")
    assert lines(await run("classify", "tickets", *asked))[-1]["label"] == "invoice"
    (topics,) = lines(await run("cluster", "tickets", "-k", "2", "--json"))
    assert [topic["size"] for topic in topics["topics"]] == [3, 3]
    (varied,) = lines(await run("diversity", "tickets", "--filter", 'week={"$lt": 2}', "--json"))
    assert varied["rows"] == 2
    found = lines(await run("recommend", "tickets", "--like", "0.txt", "-k", "2", "--json"))
    assert {line["id"] for line in found} == {"2.txt", "4.txt"}
    wrong = await run("cluster", "tickets", "--filter", "week")
    assert "'week' is not KEY=VALUE" in str(wrong.exception)
    unknown = await run("anomalies", "none")
    assert isinstance(unknown.exception, CollectionNotFoundError)
