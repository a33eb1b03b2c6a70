"""`answer`: passages in, a checked answer out."""

import logging
from collections.abc import Sequence

from rotina.errors import ContextTooLongError
from rotina.gateway import Gateway, Message
from rotina.graphs.answering.answer import Answer, Sentence
from rotina.graphs.answering.prompts import SCHEMA, conversation_so_far, messages, shown
from rotina.graphs.answering.proof import Claim, Refused, Shelf
from rotina.graphs.language import Language, detect
from rotina.knowledge import Passage

logger = logging.getLogger(__name__)

ANSWER_TOKENS = 500
CHARACTERS_PER_TOKEN = 2.0
"""A cautious estimate; a prompt that is too long after all is sent again with half of it."""
HISTORY_CHARACTERS = 1200
SMALLEST_PASSAGE = 200
"""Characters below which what is left of a passage is not worth sending."""


async def answer(
    question: str,
    passages: Sequence[Passage],
    gateway: Gateway,
    *,
    language: Language | None = None,
    history: Sequence[Message] = (),
    route: str = "smart",
    persona: str = "",
) -> Answer:
    """Answer `question` from `passages`, best first, with citations that code checked.

    `language` defaults to that of the question. Without passages no model is asked and the
    answer is unknown; so it is when no sentence of the model is proven. Passages that do not fit
    the model's context are left out from the end. Raises a `ModelError`, `ContextTooLongError`
    when not even one passage fits.
    """
    spoken = language or detect(question)
    if not passages or not question.strip():
        return Answer.unknown(spoken)
    earlier = conversation_so_far(history, HISTORY_CHARACTERS)
    constant = sum(len(str(m["content"])) for m in messages(question, "", spoken, earlier=earlier))
    room = (gateway.context(route) - ANSWER_TOKENS) * CHARACTERS_PER_TOKEN
    room = int(room) - constant - len(persona)
    claims = await _claims(question, passages, gateway, spoken, earlier, route, persona, room)
    return _checked(claims, passages, spoken)


async def _claims(
    question: str,
    passages: Sequence[Passage],
    gateway: Gateway,
    language: Language,
    earlier: str,
    route: str,
    persona: str,
    room: int,
) -> list[Claim]:
    while True:
        text = _fitting(passages, room)
        if not text:
            raise ContextTooLongError(
                f"The route {route!r} has a context of {gateway.context(route)} tokens: too few "
                "for the prompt and one passage. Use a model with more, or a shorter persona."
            )
        prompt = messages(question, text, language, persona=persona, earlier=earlier)
        try:
            reply = await gateway.chat(
                prompt, route=route, schema=SCHEMA, schema_name="answer", max_tokens=ANSWER_TOKENS
            )
        except ContextTooLongError:
            room = len(text) // 2
            continue
        assert isinstance(reply.data, dict), "the gateway validated it against the schema"
        return [Claim(**sentence) for sentence in reply.data["sentences"]]


def _fitting(passages: Sequence[Passage], room: int) -> str:
    """The first passages, numbered, in at most `room` characters; the last one may be cut."""
    parts: list[str] = []
    for number, passage in enumerate(passages, start=1):
        title = len(passage.title or "") + 10
        if room - title < min(SMALLEST_PASSAGE, len(passage.text)):
            break
        parts.append(shown(number, passage, room - title))
        room -= len(parts[-1]) + 2
    return "\n\n".join(parts)


def _checked(claims: Sequence[Claim], passages: Sequence[Passage], language: Language) -> Answer:
    shelf = Shelf(passages, language)
    kept: dict[str, Sentence] = {}
    dropped: list[str] = []
    for claim in claims:
        checked = shelf.check(claim)
        if isinstance(checked, Refused):
            logger.info("a sentence was dropped: %s", checked.reason)
            dropped.append(checked.text)
        else:
            kept.setdefault(checked.text, checked)
    if not kept:
        return Answer.unknown(language, dropped)
    return Answer(
        status="answered",
        text=" ".join(kept),
        sentences=list(kept.values()),
        dropped=dropped,
        language=language,
    )
