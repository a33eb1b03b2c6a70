"""How well a collection is searched: questions with what answers them, each half by itself."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rotina.database import load_queries
from rotina.errors import InvalidInputError, KnowledgeError
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.chunking import usual_overlap
from rotina.knowledge.metrics import Answer, Estimate, Span, estimate, measure
from rotina.knowledge.misses import Missed, tell_missed
from rotina.knowledge.model import Collection, Language, Passage, Weights
from rotina.knowledge.refining import Refinement
from rotina.knowledge.words import guess_language

SWEPT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5)
"""Weights of the vectors, against words at 1, that a sweep tries; and vectors alone."""

Scores = dict[str, list[float]]
"""Values by metric, one a question."""


class Proof(BaseModel):
    """What answers a question: a document, characters of it, or a passage to be looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = None
    start: int | None = Field(default=None, ge=0)
    end: int | None = Field(default=None, gt=0)
    passage: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _says_where(self) -> "Proof":
        if self.uri is None and self.passage is None:
            raise ValueError("give a uri, a uri with start and end, or a passage")
        if (self.start is None) != (self.end is None) or (self.start or 0) >= (self.end or 1):
            raise ValueError("start and end go together, start before end")
        return self


class Asked(BaseModel):
    """A question, and what answers it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    answers: list[Proof] = Field(min_length=1)
    language: Language | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_answer(cls, given: Any) -> Any:
        """`uri`, `start`, `end` and `passage` may stand beside the question."""
        if isinstance(given, dict) and "answers" not in given:
            proof = {name: given[name] for name in Proof.model_fields if name in given}
            rest = {name: value for name, value in given.items() if name not in proof}
            return {**rest, "answers": [proof]}
        return given


class Component(BaseModel):
    """One way to search."""

    model_config = ConfigDict(frozen=True)

    name: Literal["text", "vectors", "fused", "reranked"]
    all: dict[str, Estimate]
    """By metric."""
    languages: dict[str, dict[str, Estimate]]
    """The same of the questions in one language."""
    behind_fused: dict[str, Estimate]
    """The fused search's values less this one's, question by question; empty for itself."""


class Weighed(BaseModel):
    """A weight of the vectors that was tried, and its nDCG."""

    model_config = ConfigDict(frozen=True)

    vectors: float | None
    """Against words at 1; None is vectors alone."""
    chosen: Estimate
    """On the half of the questions that a weight is chosen on, …"""
    checked: Estimate
    """… and on the other."""


class Swept(BaseModel):
    """A weight of the vectors that was chosen on half of the questions."""

    model_config = ConfigDict(frozen=True)

    vectors: float | None
    """Against words at 1; None is vectors alone."""
    chosen: dict[str, Estimate]
    """On the half that it was chosen on, …"""
    checked: dict[str, Estimate]
    """… and on the other."""
    default: dict[str, Estimate]
    """The default weights on that other half."""
    ahead: dict[str, Estimate]
    """There, the chosen weight's values less the default's, question by question."""
    tried: list[Weighed]
    """Vectors alone last."""


class ChunkSize(BaseModel):
    """The fused search of the same documents in chunks of another size."""

    model_config = ConfigDict(frozen=True)

    limit: int
    """Characters of a chunk at most."""
    chunks: int
    k: int
    """Passages, which together hold as much text as those of the collection."""
    all: dict[str, Estimate]
    """By metric."""
    behind: dict[str, Estimate]
    """The collection's own values less these, question by question."""


class Evaluation(BaseModel):
    """What a collection's search is worth."""

    model_config = ConfigDict(frozen=True)

    collection: str
    k: int
    questions: int
    components: list[Component]
    worst: list[str]
    """Questions that the fused search answers worst, at most ten."""
    chunk_limit: int
    """Characters of the collection's chunks at most."""
    misses: int
    """Questions for which the fused search finds nothing right."""
    missed: list[Missed]
    """The first of them, at most a hundred."""
    sweep: Swept | None = None
    chunk_sizes: list[ChunkSize] = Field(default_factory=list)


def read_questions(path: Path) -> list[Asked]:
    """A JSON Lines file. Raises `InvalidInputError`, naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as UTF-8: {error}") from None
    asked = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            asked.append(Asked.model_validate_json(line))
        except ValidationError as error:
            what = error.errors(include_url=False)[0]
            where = ".".join(map(str, what["loc"]))
            raise InvalidInputError(
                f"{path}, line {number}: {where or 'line'}: {what['msg']}. A line is "
                '{"question": …, "uri": …} with "start" and "end" if you know them, or '
                '{"question": …, "passage": …}'
            ) from None
    if not asked:
        raise InvalidInputError(f"{path} holds no question: write one JSON object a line")
    return asked


async def evaluate(
    knowledge: KnowledgeBase,
    collection: str,
    asked: Sequence[Asked],
    *,
    k: int = 10,
    rerank: str | None = None,
    sweep: bool = False,
    chunk_limits: Sequence[int] = (),
) -> Evaluation:
    """Search for each question by words, by vectors, by both, and reranked by a route.

    Each question is embedded once. For each of `chunk_limits` the collection's documents are cut
    and embedded anew, in a collection that is deleted afterwards. Raises `KnowledgeError` for an
    answer that the collection does not hold, or holds twice, and for a limit that is not possible,
    and what `KnowledgeBase.search` and `add` raise.
    """
    if not asked:
        raise KnowledgeError("There is no question to evaluate with: give some")
    for limit in chunk_limits:
        usual_overlap(limit)
    answers = await _located(knowledge, collection, asked)
    found = await knowledge.get(collection)
    embedded = await knowledge.gateway.embed(
        [each.question for each in asked], route=found.route, record=False
    )
    searching = _Searching(knowledge, collection, asked, answers, embedded.vectors, k)
    passages = {name: await searching.found(way) for name, way in _ways(rerank).items()}
    scores = {name: searching.scored(rows) for name, rows in passages.items()}
    languages = [each.language or guess_language(each.question) for each in asked]
    order = sorted(range(len(asked)), key=lambda n: (scores["fused"]["ndcg"][n], n))
    misses = [n for n, recall in enumerate(scores["fused"]["recall"]) if recall == 0]
    questions = [each.question for each in asked]
    return Evaluation(
        collection=collection,
        k=k,
        questions=len(asked),
        components=[
            _component(name, own, scores["fused"], languages) for name, own in scores.items()
        ],
        worst=[questions[n] for n in order[:10] if scores["fused"]["ndcg"][n] < 1],
        chunk_limit=found.chunk_limit,
        misses=len(misses),
        missed=await tell_missed(
            knowledge,
            collection,
            misses,
            list(zip(questions, languages, answers, passages["fused"], strict=True)),
            {name: own["recall"] for name, own in scores.items() if name != "fused"},
        ),
        sweep=await _sweep(searching, scores) if sweep else None,
        chunk_sizes=[
            await _chunk_size(searching, found, limit, scores["fused"]) for limit in chunk_limits
        ],
    )


def _ways(rerank: str | None) -> dict[str, dict[str, Any]]:
    """What a search is asked with, by component."""
    ways: dict[str, dict[str, Any]] = {
        "text": {"weights": Weights(vectors=0)},
        "vectors": {"weights": Weights(text=0)},
        "fused": {},
    }
    if rerank is not None:
        ways["reranked"] = {"refinement": Refinement(rerank=rerank, rerank_seconds=60)}
    return ways


class _Searching:
    """All questions, asked in one way after the other."""

    def __init__(
        self,
        knowledge: KnowledgeBase,
        collection: str,
        asked: Sequence[Asked],
        answers: Sequence[Sequence[Answer]],
        vectors: Sequence[Sequence[float]],
        k: int,
    ) -> None:
        self.asked = asked
        self.knowledge = knowledge
        self._collection = collection
        self._answers = answers
        self._vectors = vectors
        self.k = k

    def elsewhere(self, collection: str, k: int) -> "_Searching":
        """The same questions to a collection of the same documents."""
        return _Searching(self.knowledge, collection, self.asked, self._answers, self._vectors, k)

    async def found(self, options: Mapping[str, Any]) -> list[list[Passage]]:
        """What is found for each question."""
        return [
            await self.knowledge.search(
                self._collection, each.question, k=self.k, vector=vector, as_of=None, **options
            )
            for each, vector in zip(self.asked, self._vectors, strict=True)
        ]

    def scored(self, found: Sequence[Sequence[Passage]]) -> Scores:
        """Metrics of each question that all questions have."""
        told = []
        for passages, answers in zip(found, self._answers, strict=True):
            spans: list[Span] = [(each.uri, each.start, each.end) for each in passages]
            told.append(measure(spans, answers, self.k))
        shared = [name for name in told[0] if all(name in each for each in told)]
        return {name: [each[name] for each in told] for name in shared}

    async def scores(self, options: Mapping[str, Any]) -> Scores:
        """Both."""
        return self.scored(await self.found(options))


def _component(name: Any, own: Scores, fused: Scores, languages: Sequence[Language]) -> Component:
    each = {
        language: [n for n, known in enumerate(languages) if known == language]
        for language in sorted(set(languages))
    }
    behind = {} if name == "fused" else _lead(fused, own)
    return Component(
        name=name,
        all=_estimates(own),
        languages={language: _estimates(own, rows) for language, rows in each.items()},
        behind_fused=behind,
    )


def _estimates(scores: Scores, rows: Sequence[int] | None = None) -> dict[str, Estimate]:
    return {
        name: estimate(values if rows is None else [values[n] for n in rows])
        for name, values in scores.items()
    }


def _lead(first: Scores, second: Scores, rows: Sequence[int] | None = None) -> dict[str, Estimate]:
    """How far the first is ahead, question by question."""
    ahead = {
        metric: [a - b for a, b in zip(first[metric], values, strict=True)]
        for metric, values in second.items()
    }
    return _estimates(ahead, rows)


async def _sweep(searching: _Searching, scores: Mapping[str, Scores]) -> Swept:
    """Choose the vectors' weight by nDCG on one half of the questions, report it on the other."""
    halves: tuple[list[int], list[int]] = ([], [])
    for number, each in enumerate(searching.asked):
        halves[hashlib.sha256(each.question.encode()).digest()[0] % 2].append(number)
    first, second = halves
    if not first or not second:
        raise KnowledgeError("There are too few questions for a sweep: one half would be empty")
    tried: dict[float | None, Scores] = {0.0: scores["text"], None: scores["vectors"]}
    for weight in SWEPT:
        if weight not in tried:
            tried[weight] = await searching.scores({"weights": Weights(vectors=weight)})

    def worth(weight: float | None) -> float:
        return sum(tried[weight]["ndcg"][number] for number in first)

    best = max(tried, key=worth)
    return Swept(
        vectors=best,
        chosen=_estimates(tried[best], first),
        checked=_estimates(tried[best], second),
        default=_estimates(scores["fused"], second),
        ahead=_lead(tried[best], scores["fused"], second),
        tried=[
            Weighed(
                vectors=weight,
                chosen=_estimates(tried[weight], first)["ndcg"],
                checked=_estimates(tried[weight], second)["ndcg"],
            )
            for weight in (*SWEPT, None)
        ],
    )


async def _chunk_size(
    searching: _Searching, collection: Collection, limit: int, own: Scores
) -> ChunkSize:
    """As many passages are searched for as hold the same text, else large chunks would win."""
    knowledge = searching.knowledge
    k = min(1000, max(1, round(searching.k * collection.chunk_limit / limit)))
    name = f"{collection.name[:60]}.chunks-{limit}-{uuid4().hex[:8]}"
    await knowledge.create(
        name, route=collection.route, language=collection.language, chunk_limit=limit
    )
    try:
        async for document, about in knowledge.contents(collection.name):
            # Labels too: for as long as it lasts, the copy is nobody else's to see.
            await knowledge.add(name, document, **asdict(about))
        made = await knowledge.get(name)
        found = await searching.elsewhere(name, k).scores({})
    finally:
        await _drop_copy(knowledge, name, collection)
    behind = _lead(own, found)
    return ChunkSize(limit=limit, chunks=made.chunks, k=k, all=_estimates(found), behind=behind)


async def _drop_copy(knowledge: KnowledgeBase, name: str, collection: Collection) -> None:
    """Delete a copy of the collection; the next comparison finds its vectors in the cache."""
    copy = await knowledge.get(name)
    values = {"collection_id": collection.id, "copy_id": copy.id, "home": copy.home}
    async with knowledge.scope() as connection:
        await connection.execute(load_queries("rotina.knowledge")["hand_over_vectors"], values)
    await knowledge.delete(name)


async def _located(
    knowledge: KnowledgeBase, collection: str, asked: Sequence[Asked]
) -> list[list[Answer]]:
    """The answers of each question as places of the collection."""
    sizes = {each.uri: each.characters for each in await knowledge.documents(collection)}
    found = await knowledge.get(collection)
    places: dict[str, Answer] = {}
    sql = load_queries("rotina.knowledge")["locate_passage"]
    for proof in (proof for each in asked for proof in each.answers):
        if proof.passage is not None and proof.passage not in places:
            async with knowledge.scope() as connection:
                key = {"collection_id": found.id, "passage": proof.passage, "uri": proof.uri}
                rows = await (await connection.execute(sql, key)).fetchall()
            places[proof.passage] = _only(rows, proof.passage)
    return [[_answer(proof, places, sizes) for proof in each.answers] for each in asked]


def _only(rows: Sequence[Mapping[str, Any]], passage: str) -> Answer:
    if len(rows) != 1 or rows[0]["again"]:
        times = "nowhere" if not rows else "more than once"
        raise KnowledgeError(
            f"The passage {passage[:80]!r} stands {times} in the collection: name its document and "
            "characters instead"
        )
    start = rows[0]["start"]
    return Answer(rows[0]["uri"], start, start + len(passage))


def _answer(proof: Proof, places: Mapping[str, Answer], sizes: Mapping[str, int]) -> Answer:
    if proof.passage is not None:
        return places[proof.passage]
    uri = proof.uri or ""
    if uri not in sizes:
        raise KnowledgeError(f"There is no document {uri!r} in the collection: add it, or mend it")
    if proof.end is not None and proof.end > sizes[uri]:
        raise KnowledgeError(
            f"{uri!r} has {sizes[uri]} characters, and an answer ends at {proof.end}"
        )
    return Answer(uri, proof.start, proof.end)
