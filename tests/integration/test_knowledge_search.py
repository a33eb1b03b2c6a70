"""Who sees what and when, likeness of words, fusion, and what is done with passages found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from rotina.database import Pool
from rotina.errors import KnowledgeError
from rotina.gateway import Gateway, RetryPolicy
from rotina.knowledge import Document, KnowledgeBase, Page, Refinement, Weights
from rotina.knowledge.refining import marginal
from rotina.settings import Settings
from tests.integration.test_knowledge_base import document, embedding, fill, named
from tests.scripted_model import Behaviour, Request, ScriptedModel, chat, hang, scores, status

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
SECTIONS = """# Returns

Refund requests are open for seven days.

A refund goes to the same card.

# Delivery

Delivery is free above 50.
"""


@pytest.fixture
async def model() -> Any:
    async with ScriptedModel(embedding) as running:
        yield running


@pytest.fixture
async def gateway(model: ScriptedModel) -> Any:
    deployment = {"model": "scripted", "base_url": model.base_url}
    cross_encoder = {**deployment, "capabilities": ["rerank"], "context": 256}
    settings = Settings(
        deployments={"one": deployment, "cross": cross_encoder},
        routes={
            "embed": {"deployments": ["one"]},
            "judge": {"deployments": ["one"]},
            "cross": {"deployments": ["cross"]},
        },
    )
    async with Gateway(settings, retry=RetryPolicy(attempts=1)) as opened:
        yield opened


@pytest.fixture
def knowledge(pool: Pool, gateway: Gateway) -> KnowledgeBase:
    return KnowledgeBase(pool, gateway, "acme")


# ── access and time ───────────────────────────────────────────────────────────────────────────


async def test_labels_decide_who_sees_a_document(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    await knowledge.add("help", document("Refund rules for all.", "all"))
    # What is remembered of the collection from here on is stale.
    await knowledge.search("help", "refund")
    await knowledge.add("help", document("Refund secrets.", "hr"), access=["hr"])
    await knowledge.add("help", document("Refund for both.", "both"), access=["hr", "legal"])

    async def seen(base: KnowledgeBase, **options: Any) -> set[str]:
        return set(named(await base.search("help", "refund", **options)))

    assert await seen(knowledge) == {"all", "hr", "both"}
    assert await seen(knowledge, access=[]) == {"all"}
    assert await seen(knowledge, access=["legal"]) == {"all", "both"}
    limited = knowledge.limited_to(["legal", "x"])
    assert await seen(limited) == {"all", "both"}
    assert await seen(limited, access=["hr", "legal"]) == {"all", "both"}, "no way to more"
    assert await seen(limited.limited_to(["hr"])) == {"all"}
    for weights in (Weights(text=0), Weights(vectors=0)):
        assert await seen(limited, weights=weights) == {"all", "both"}
    await knowledge.add("help", document("Refund secrets.", "hr"))
    assert await seen(limited) == {"all", "hr", "both"}, "the same content, other labels"


async def test_a_document_holds_for_a_time(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    await knowledge.add("help", document("Refund in 7 days.", "old"), valid_to=NOW - DAY)
    await knowledge.add(
        "help", document("Refund in 9 days.", "new"), valid_from=NOW - DAY, valid_to=NOW + DAY
    )
    await knowledge.add("help", document("Refund in 11 days.", "next"), valid_from=NOW + DAY)

    async def seen(**options: Any) -> set[str]:
        return set(named(await knowledge.search("help", "refund", **options)))

    assert await seen() == {"new"}
    assert await seen(as_of=NOW - 2 * DAY) == {"old"}
    assert await seen(as_of=NOW - DAY) == {"new"}, "[from, to)"
    assert await seen(as_of=NOW + 30 * DAY) == {"next"}
    assert await seen(as_of=None) == {"old", "new", "next"}
    with pytest.raises(KnowledgeError, match="has no time zone"):
        await knowledge.add("help", document("x"), valid_from=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(KnowledgeError, match="which is never"):
        await knowledge.add("help", document("x"), valid_from=NOW, valid_to=NOW)
    with pytest.raises(KnowledgeError, match="access labels"):
        await knowledge.add("help", document("x"), access=[""])


# ── words ─────────────────────────────────────────────────────────────────────────────────────


async def test_misspelt_words_and_parts_of_codes_are_likened(knowledge: KnowledgeBase) -> None:
    await knowledge.create("parts")
    await knowledge.add("parts", document("Valve KX4711B closes the cistern.", "valve"))
    await knowledge.add("parts", document("A garantia do liquidificador é de um ano.", "blender"))
    words = Weights(vectors=0)
    for question, expected in (
        ("KX4711B", "valve"),
        ("kx4711", "valve"),
        ("KX4711A", "valve"),
        ("liquidificadro", "blender"),
        ("garantias", "blender"),
    ):
        assert named(await knowledge.search("parts", question, k=1, weights=words)) == [expected]
    exact, typo = [
        (await knowledge.search("parts", question, k=1, weights=words))[0].text_score
        for question in ("liquidificador", "liquidificadro")
    ]
    assert exact > typo > 0
    assert await knowledge.search("parts", "zebra", weights=words) == []


async def test_ranks_can_be_fused_instead_of_scores(knowledge: KnowledgeBase) -> None:
    await fill(knowledge)
    weights = Weights(text=1.0, vectors=0.5, fusion="ranks", rank_constant=10)
    found = await knowledge.search("help", "refund", k=3, weights=weights)
    assert named(found)[0] == "refund.md"
    assert found[0].score == pytest.approx(1 / 11 + 0.5 / 11)
    assert named(found)[1] == "reembolso.md", "by vectors alone"
    assert found[1].score == pytest.approx(0.5 / 12)
    refused: list[dict[str, Any]] = [
        {"text": -1}, {"text": 0, "vectors": 0}, {"rank_constant": 0},
    ]  # fmt: skip
    for bad in refused:
        with pytest.raises(KnowledgeError):
            Weights(**bad)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"place": {"city": "Natal"}}, {"a"}),
        ({"place.city": "Natal"}, {"a"}),
        ({"place.city": {"$ne": "Natal"}}, {"b", "c"}),
        ({"place": {"floors": {"$gt": 2}}}, {"b"}),
        ({"dotted.key": 1}, {"c"}),
        ({"place.rooms.size": {"$gte": 30}}, {"b"}),
        ({"none": None}, {"c"}),
    ],
)
async def test_filters_reach_into_metadata(
    knowledge: KnowledgeBase, given: dict[str, Any], expected: set[str]
) -> None:
    await knowledge.create("help")
    rooms = [{"size": 12}, {"size": 40}]
    for name, metadata in (
        ("a", {"place": {"city": "Natal", "floors": 2}}),
        ("b", {"place": {"city": "Olinda", "floors": 3, "rooms": rooms}}),
        ("c", {"dotted.key": 1, "none": None}),
    ):
        await knowledge.add("help", document("Refund.", name), metadata=metadata)
    assert set(named(await knowledge.search("help", "refund", filter=given))) == expected


# ── refinement ────────────────────────────────────────────────────────────────────────────────


async def test_passages_grow_to_neighbours_and_sections(knowledge: KnowledgeBase) -> None:
    sentences = " ".join(f"Refund rule number {n} is about things." for n in range(120))
    text = f"# Returns\n\n{sentences}\n\n# Delivery\n\nDelivery is free above 50.\n"
    await knowledge.create("help")
    pages = [Page(number=1, start=0, end=200), Page(number=2, start=200, end=len(text))]
    rules = document(text, "rules.md").model_copy(update={"pages": pages})
    added = await knowledge.add("help", rules)
    question = "refund rule number 57"
    (plain,) = await knowledge.search("help", question, k=1)
    wider = []
    for refinement in (Refinement(neighbours=1), Refinement(section=True)):
        (wide,) = await knowledge.search("help", question, k=1, refinement=refinement)
        assert wide.start < plain.start
        assert plain.end < wide.end
        assert wide.text == text[wide.start : wide.end]
        wider.append(wide)
    section = wider[1]
    assert section.text.count("Refund rule number") == 120
    assert "Delivery" not in section.text
    assert (plain.page, section.page) == (2, 1), "the page on which it begins"
    found = await knowledge.search("help", "refund", k=3, refinement=Refinement(section=True))
    assert len([each for each in found if "number 57" in each.text]) == 1, "once, not a chunk each"
    assert (await knowledge.text(added.document_id))[section.start : section.end] == section.text


async def test_a_citation_stays_within_its_passage(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    await knowledge.add("help", document(SECTIONS, "rules.md", title="Rules"))
    (found,) = await knowledge.search("help", "free delivery", k=1)
    assert (found.section, found.title, found.version) == ("Delivery", "Rules", 1)
    start = SECTIONS.index("free")
    cited = found.cite(start, start + 4)
    assert (cited.quote, cited.section, cited.uri) == ("free", "Delivery", "rules.md")
    assert found.cite().quote == found.text
    with pytest.raises(ValueError, match="is not within"):
        found.cite(0, 4)


async def test_diversity_leaves_out_what_says_the_same(knowledge: KnowledgeBase) -> None:
    await knowledge.create("help")
    for name in ("a", "b", "c"):
        await knowledge.add("help", document(f"Refund refund refund {name}.", name))
    await knowledge.add("help", document("Refund of a delivery.", "d"))
    same = await knowledge.search("help", "refund", k=2)
    assert "d" not in named(same)
    for refinement in (Refinement(diversity=0.9), Refinement(diversity=1.0)):
        varied = await knowledge.search("help", "refund", k=2, refinement=refinement)
        assert "d" in named(varied)
    refused: list[dict[str, Any]] = [
        {"diversity": 2}, {"neighbours": -1}, {"rerank_best": 0}, {"rerank_seconds": 0},
    ]  # fmt: skip
    for bad in refused:
        with pytest.raises(KnowledgeError):
            Refinement(**bad)


def test_marginal_relevance_on_paper() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert marginal(vectors, [0.9, 0.8, 0.1], 0.0, 3) == [0, 1, 2]
    assert marginal(vectors, [0.9, 0.8, 0.1], 0.6, 2) == [0, 2]
    assert marginal(vectors, [0.5, 0.5, 0.5], 0.5, 3) == [0, 2, 1]


def grading(grades: list[int]) -> Any:
    """Embeds as ever, and grades so."""

    def script(request: Request) -> Behaviour:
        if "input" in request.body:
            return embedding(request)
        return chat('{"grades": ' + str(grades) + "}")

    return script


async def test_a_model_reorders_what_was_found(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await fill(knowledge)
    plain = await knowledge.search("help", "refund", k=6)
    model.script = grading([1, 9, 1, 0, 0, 0])
    refinement = Refinement(rerank="judge")
    found = await knowledge.search("help", "refund", k=2, refinement=refinement)
    assert named(found) == [plain[1].document, plain[0].document]
    assert [each.rerank_score for each in found] == [0.9, 0.1]
    asked = model.requests[-1].body["messages"][-1]["content"]
    assert asked.startswith("Question: refund\n\n[1] ")


async def test_a_cross_encoder_reorders_what_was_found(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await fill(knowledge)
    plain = await knowledge.search("help", "refund", k=6)
    reply = scores(-1.5, 2.5, -0.5)
    model.script = lambda request: embedding(request) if "input" in request.body else reply
    refinement = Refinement(rerank="cross", rerank_best=3)
    found = await knowledge.search("help", "refund", k=6, refinement=refinement)
    assert named(found) == [plain[at].document for at in (1, 2, 0, 3, 4, 5)]
    assert [each.rerank_score for each in found] == [2.5, -0.5, -1.5, None, None, None]
    asked = model.requests[-1]
    assert (asked.path, asked.body["query"]) == ("/v1/rerank", "refund")
    assert asked.body["documents"] == [each.text for each in plain[:3]]


async def test_a_cross_encoder_is_shown_what_it_can_read(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    await knowledge.create("help", chunk_limit=4000)
    await knowledge.add("help", document("A refund takes seven days. " * 120, "long"))
    model.script = lambda request: embedding(request) if "input" in request.body else scores(0.5)
    refinement = Refinement(rerank="cross")
    (found,) = await knowledge.search("help", "refund", k=1, refinement=refinement)
    [shown] = model.requests[-1].body["documents"]
    assert found.text.startswith(shown)
    assert 200 < len(shown) < len(found.text)
    assert found.rerank_score == 0.5


@pytest.mark.parametrize(
    ("route", "behaviour"),
    [
        ("judge", status(500)),
        ("judge", chat('{"grades": [1]}')),
        ("judge", hang()),
        ("cross", status(404)),
        ("cross", scores(float("nan"), 1.0)),
        ("cross", hang()),
    ],
)
async def test_a_reranker_that_fails_or_is_late_changes_nothing(
    knowledge: KnowledgeBase,
    model: ScriptedModel,
    route: str,
    behaviour: Behaviour,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await fill(knowledge)
    plain = await knowledge.search("help", "refund", k=2)
    model.script = lambda request: embedding(request) if "input" in request.body else behaviour
    refinement = Refinement(rerank=route, rerank_best=2, rerank_seconds=0.5)
    found = await knowledge.search("help", "refund", k=2, refinement=refinement)
    assert found == plain
    assert "not reranked" in caplog.text


# ── what changes, and what stays ──────────────────────────────────────────────────────────────


async def test_only_changed_chunks_are_embedded(
    knowledge: KnowledgeBase, model: ScriptedModel
) -> None:
    def text(seventh: str) -> Document:
        parts = [f"# Part {n}\n\n" + f"Refund rule {n} of many. " * 20 for n in range(10)]
        parts[7] = f"# Part 7\n\n{seventh}"
        return document("Preface. " * n_preface + "\n\n" + "\n\n".join(parts), "rules.md")

    n_preface = 1
    await knowledge.create("help")
    first = await knowledge.add("help", text("The old seventh."))
    before = {each.text: each.chunk_id for each in await knowledge.search("help", "rule", k=99)}
    asked = len(model.requests)
    n_preface = 5
    second = await knowledge.add("help", text("The new seventh."))
    embedded = [each for request in model.requests[asked:] for each in request.body["input"]]
    assert len(embedded) == 2, "the preface and the seventh part"
    assert (second.chunks, second.version) == (first.chunks, 2)
    stored = await knowledge.text(second.document_id)
    after = await knowledge.search("help", "rule seventh preface", k=99)
    assert len(after) == second.chunks
    for each in after:
        assert stored[each.start : each.end] == each.text, "places have moved with the text"
        if each.text in before:
            assert each.chunk_id == before[each.text]
    assert len((await knowledge.vectors("help")).ids) == second.chunks
