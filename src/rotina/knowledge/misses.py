"""Questions for which a search finds nothing right, and what it finds instead."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.metrics import Answer
from rotina.knowledge.model import Language, Passage

MOST = 100
"""Questions that are told, the first ones."""
INSTEAD = 3
"""Passages that are told of each, the best ones."""
TEXT = 400
"""Characters of a text at most."""


class Wanted(BaseModel):
    """What answers a question."""

    model_config = ConfigDict(frozen=True)

    uri: str
    text: str
    """The characters that answer; of an answer that names none, the document's first."""
    whole: bool
    """Whether any passage of the document answers."""


class Instead(BaseModel):
    """What was found, and does not answer."""

    model_config = ConfigDict(frozen=True)

    uri: str
    section: str
    text: str
    text_score: float
    vector_score: float


class Missed(BaseModel):
    """A question with nothing right among the first passages of the fused search."""

    model_config = ConfigDict(frozen=True)

    question: str
    language: Language
    wanted: list[Wanted]
    instead: list[Instead]
    """The first passages, best first."""
    found_by: list[str]
    """Other ways to search that found something right."""


async def tell_missed(
    knowledge: KnowledgeBase,
    collection: str,
    rows: Sequence[int],
    asked: Sequence[tuple[str, Language, Sequence[Answer], Sequence[Passage]]],
    others: Mapping[str, Sequence[float]],
) -> list[Missed]:
    """Those of `rows` with what answers them and what was found instead.

    `asked` has question, language, answers and passages found of every question, `others` the
    recall of the other ways to search.
    """
    told = rows[:MOST]
    uris = {answer.uri for row in told for answer in asked[row][2]}
    texts = {uri: text for uri, (text, _) in (await knowledge.texts(collection, [*uris])).items()}
    return [
        Missed(
            question=asked[row][0],
            language=asked[row][1],
            wanted=[_wanted(answer, texts.get(answer.uri, "")) for answer in asked[row][2]],
            instead=[_instead(passage) for passage in asked[row][3][:INSTEAD]],
            found_by=[name for name, recall in others.items() if recall[row] > 0],
        )
        for row in told
    ]


def _wanted(answer: Answer, text: str) -> Wanted:
    whole = answer.start is None
    return Wanted(uri=answer.uri, text=_short(text[answer.start : answer.end]), whole=whole)


def _instead(passage: Passage) -> Instead:
    return Instead(
        uri=passage.uri,
        section=passage.section,
        text=_short(passage.text),
        text_score=passage.text_score,
        vector_score=passage.vector_score,
    )


def _short(text: str) -> str:
    line = " ".join(text[: 4 * TEXT].split())
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"
