"""`rotina kb eval` and what is behind it, on a real PostgreSQL."""

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rotina.database import Pool
from rotina.errors import InvalidInputError, KnowledgeError, ModelError
from rotina.gateway import Gateway, RetryPolicy
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.evaluation import SWEPT, Asked, evaluate, read_questions
from rotina.knowledge.evaluation_report import save_report
from rotina.knowledge.loading import load
from rotina.settings import Settings
from tests.integration.test_knowledge_base import embedding, fill
from tests.scripted_model import Behaviour, Request, ScriptedModel, chat, scores, status


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(embedding) as running:
        yield running


@pytest.fixture
async def knowledge(pool: Pool, model: ScriptedModel) -> AsyncIterator[KnowledgeBase]:
    settings = Settings(
        deployments={
            "one": {"model": "scripted", "base_url": model.base_url},
            "cross": {"model": "m", "base_url": model.base_url, "capabilities": ["rerank"]},
        },
        routes={
            "embed": {"deployments": ["one"]},
            "judge": {"deployments": ["one"]},
            "cross": {"deployments": ["cross"]},
        },
    )
    async with Gateway(settings, retry=RetryPolicy(attempts=1)) as gateway:
        knowledge = KnowledgeBase(pool, gateway, "acme")
        await fill(knowledge)
        yield knowledge


def asked(question: str, **answer: object) -> Asked:
    return Asked.model_validate({"question": question, **answer})


async def test_each_half_and_both(knowledge: KnowledgeBase, model: ScriptedModel) -> None:
    """Words find what is said in them, vectors what is meant, both find both."""
    questions = [
        asked("seven days", uri="refund.md", language="en"),
        asked("a senha esquecida", uri="password.md", language="pt"),
        asked("delivery", passage="A entrega é grátis acima de R$ 50."),
    ]
    before = len(model.requests)
    told = await evaluate(knowledge, "help", questions, k=2)
    assert len(model.requests) == before + 1, "embedded once, all together"
    recall = {each.name: each.all["recall"].mean for each in told.components}
    assert recall["text"] < recall["fused"]
    assert recall["vectors"] <= recall["fused"]
    text = told.components[0]
    assert text.behind_fused["recall"].mean == pytest.approx(recall["fused"] - recall["text"])
    assert set(text.languages) == {"en", "pt"}
    assert "characters_iou" not in text.all, "not every answer has characters"
    spans = await evaluate(knowledge, "help", questions[2:], k=2)
    assert spans.components[1].all["characters_recall"].mean == 1.0


@pytest.mark.parametrize("route", ["judge", "cross"])
async def test_a_reranker_is_measured(
    knowledge: KnowledgeBase, model: ScriptedModel, route: str
) -> None:
    def script(request: Request) -> Behaviour:
        if "input" in request.body:
            return embedding(request)
        if "documents" in request.body:
            return scores(*(float("sete dias" in each) for each in request.body["documents"]))
        shown = request.body["messages"][-1]["content"].split("\n\n[")[1:]
        grades = [10 if "sete dias" in each else 0 for each in shown]
        return chat(json.dumps({"grades": grades}))

    model.script = script
    questions = [asked("refund", uri="reembolso.md")]
    told = await evaluate(knowledge, "help", questions, k=6, rerank=route)
    mrr = {each.name: each.all["mrr"].mean for each in told.components}
    assert mrr["fused"] < mrr["reranked"] == 1.0


async def test_a_sweep_chooses_on_one_half_and_reports_on_the_other(
    knowledge: KnowledgeBase,
) -> None:
    pairs = [("refund", "refund.md"), ("senha", "senha.md"), ("delivery", "delivery.md")]
    questions = [asked(f"{word} {n}", uri=uri) for word, uri in pairs for n in range(6)]
    told = await evaluate(knowledge, "help", questions, k=3, sweep=True)
    assert told.sweep is not None
    assert told.sweep.checked["ndcg"].mean > 0.5
    with pytest.raises(KnowledgeError, match="too few questions"):
        await evaluate(knowledge, "help", questions[:1], sweep=True)


async def test_what_finds_nothing_right_is_told_with_what_was_found(
    knowledge: KnowledgeBase, tmp_path: Path
) -> None:
    passage = "A entrega é grátis acima de R$ 50."
    questions = [
        asked("refund", uri="refund.md"),
        asked("refund", passage=passage, language="pt"),
        asked("a senha esquecida", uri="moon.md"),
    ]
    await knowledge.add("help", load(b"Moon landing. " * 90, name="moon.md"))
    told = await evaluate(knowledge, "help", questions, k=1)
    assert told.misses == 2
    first, second = told.missed
    assert (first.question, first.language, first.found_by) == ("refund", "pt", [])
    assert [(each.text, each.whole) for each in first.wanted] == [(passage, False)]
    assert [each.uri for each in first.instead] == ["refund.md"]
    assert first.instead[0].vector_score > 0.9
    assert second.wanted[0].whole
    assert second.wanted[0].text.startswith("Moon landing. Moon")
    assert len(second.wanted[0].text) == 400
    save_report(told, tmp_path / "report.html")
    assert "a senha esquecida" in (tmp_path / "report.html").read_text(encoding="utf-8")


async def test_the_sweep_tells_each_weight(knowledge: KnowledgeBase) -> None:
    questions = [asked(f"{word} {n}", uri=f"{word}.md") for word in ("refund", "delivery")
                 for n in range(6)]  # fmt: skip
    swept = (await evaluate(knowledge, "help", questions, k=1, sweep=True)).sweep
    assert swept is not None
    assert [each.vectors for each in swept.tried] == [*SWEPT, None]
    (best,) = [each for each in swept.tried if each.vectors == swept.vectors]
    assert (best.chosen, best.checked) == (swept.chosen["ndcg"], swept.checked["ndcg"])
    assert best.chosen.mean == max(each.chosen.mean for each in swept.tried)
    lead = swept.checked["ndcg"].mean - swept.default["ndcg"].mean
    assert swept.ahead["ndcg"].mean == pytest.approx(lead)


PAGE = """<title>Manual</title>
<h1>Refunds</h1><p>{}</p>
<h1>Entrega</h1><p>{}</p>"""


async def test_documents_are_cut_anew_for_a_comparison(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    english = " ".join(f"Refund rule {n} says {n} days." for n in range(60))
    portuguese = " ".join(f"A entrega {n} demora {n} dias." for n in range(60))
    page = PAGE.format(english, portuguese).encode()
    await knowledge.create("rules", chunk_limit=400)
    await knowledge.add("rules", load(page, name="rules.html"), uri="rules")
    questions = [asked("refund rule 7", passage="Refund rule 7 says 7 days.")]
    told = await evaluate(knowledge, "rules", questions, k=4, chunk_limits=[200, 400, 1600])
    small, same, large = told.chunk_sizes
    assert small.chunks > same.chunks > large.chunks > 1
    assert (small.k, same.k, large.k) == (8, 4, 1), "as much text in each"
    own = next(each for each in told.components if each.name == "fused")
    assert same.all == own.all, "the same sizes give the same, headings and all"
    assert same.behind["recall"].mean == 0
    assert [each.name for each in await knowledge.collections()] == ["help", "rules"]

    broken = [0]

    def script(request: Request) -> Behaviour | None:
        broken[0] += 1
        return status(400) if broken[0] > 1 else embedding(request)

    model.script = script
    with pytest.raises(ModelError):
        await evaluate(knowledge, "rules", questions, chunk_limits=[150])
    assert [each.name for each in await knowledge.collections()] == ["help", "rules"]
    with pytest.raises(KnowledgeError, match="Chunks cannot have 5 characters: choose 100 to"):
        await evaluate(knowledge, "rules", questions, chunk_limits=[5])


async def test_chunks_are_as_long_as_their_collection_says(knowledge: KnowledgeBase) -> None:
    text = " ".join(f"Rule {n} says {n} days." for n in range(100))
    made_so: dict[str, dict[str, Any]] = {
        "short": {"chunk_limit": 300, "chunk_overlap": 60},
        "apart": {"chunk_overlap": 0},
    }
    for name, sizes in made_so.items():
        made = await knowledge.create(name, **sizes)
        await knowledge.add(name, load(text.encode(), name="rules.txt"))
        assert (made.chunk_limit, made.chunk_overlap) in {(300, 60), (600, 0)}
        found = await knowledge.search(name, "rule", k=100)
        assert max(len(each.text) for each in found) <= made.chunk_limit
        places = sorted((each.start, each.end) for each in found)
        pairs = list(itertools.pairwise(places))
        shared = [first[1] > second[0] for first, second in pairs]
        assert any(shared) == (made.chunk_overlap > 0)
        stored = [each async for each in knowledge.contents(name)]
        assert [(about.uri, document.text) for document, about in stored] == [("rules.txt", text)]
        await knowledge.add(name, load(text.encode(), name="rules.txt"), access=["hr"])
        assert [about.access async for _, about in knowledge.contents(name)] == [["hr"]]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"chunk_limit": 99}, "Chunks cannot have 99"),
        ({"chunk_limit": 20_001}, "choose 100 to 20000"),
        ({"chunk_limit": 200, "chunk_overlap": 101}, "choose 0 to 100"),
        ({"chunk_overlap": -1}, "chunk_overlap is -1"),
    ]
    for sizes, message in refused:
        with pytest.raises(KnowledgeError, match=message):
            await knowledge.create("other", **sizes)


async def test_answers_that_are_not_there_are_named(knowledge: KnowledgeBase) -> None:
    for answer, message in (
        ({"uri": "nope.md"}, "no document 'nope.md'"),
        ({"uri": "refund.md", "start": 0, "end": 999}, "has 24 characters"),
        ({"passage": "nobody said this"}, "stands nowhere"),
        ({"passage": "e"}, "more than once"),
    ):
        with pytest.raises(KnowledgeError, match=message):
            await evaluate(knowledge, "help", [asked("refund", **answer)])
    with pytest.raises(KnowledgeError, match="no question"):
        await evaluate(knowledge, "help", [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no question"),
        ("{", "line 2: line: Invalid JSON"),
        ('{"question": "x"}', "line 2: answers.0: Value error, give a uri"),
        ('{"question": "", "uri": "a"}', "line 2: question"),
        ('{"question": "x", "uri": "a", "start": 5, "end": 3}', "start before end"),
        ('{"question": "x", "uri": "a", "colour": 1}', "line 2: colour"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(InvalidInputError, match=message):
        read_questions(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")
