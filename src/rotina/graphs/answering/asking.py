"""`answer`: passages in, a checked answer out."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rotina.errors import ContextTooLongError
from rotina.gateway import Gateway, Message
from rotina.graphs.answering import judging
from rotina.graphs.answering.answer import Answer, Sentence
from rotina.graphs.answering.prompts import SCHEMA, conversation_so_far, messages, shown
from rotina.graphs.answering.proof import Claim, Refused, Shelf
from rotina.graphs.answering.sentences import Numbered, is_citable, lay_out
from rotina.graphs.language import Language, detect
from rotina.graphs.splitting import CHARACTERS_PER_TOKEN
from rotina.knowledge import Passage

logger = logging.getLogger(__name__)

ANSWER_TOKENS = 500
HISTORY_CHARACTERS = 1200


async def answer(
    question: str,
    passages: Sequence[Passage],
    gateway: Gateway,
    *,
    language: Language | None = None,
    history: Sequence[Message] = (),
    route: str = "smart",
    persona: str = "",
    judged: bool = True,
) -> Answer:
    """Answer `question` from `passages`, best first, with citations that code checked.

    `language` defaults to that of the question. Without passages no model is asked and the
    answer is unknown; so it is when no sentence of the model is proven. Passages that do not fit
    the model's context are left out from the end.

    With `judged` each proven sentence is shown to the model once more, alone with the question:
    what does not answer it is dropped too. Leave it out where the question is an order ("What do
    these customers report?") and every true sentence is welcome.

    Raises a `ModelError`, `ContextTooLongError` when not even one sentence fits.
    """
    spoken = language or detect(question)
    if not question.strip() or not any(map(is_citable, passages)):
        return Answer.unknown(spoken)
    earlier = conversation_so_far(history, HISTORY_CHARACTERS)
    prompt = partial(messages, question, language=spoken, persona=persona, earlier=earlier)
    said, sentences = await _ask(prompt, passages, gateway, route)
    kept, dropped = _checked(said, Shelf(sentences, spoken))
    if judged:
        kept, off = await _judged(question, kept, gateway, route)
        dropped += off
    if not kept:
        return Answer.unknown(spoken, dropped)
    return Answer(
        status="answered",
        text=" ".join(sentence.text for sentence in kept),
        sentences=kept,
        dropped=dropped,
        language=spoken,
    )


async def _ask(
    prompt: Callable[[str], list[Message]],
    passages: Sequence[Passage],
    gateway: Gateway,
    route: str,
) -> tuple[dict[str, Any], list[Numbered]]:
    """What the model says, and the sentences whose numbers it cites.

    A prompt that is too long after all is sent again with half of the passages.
    """
    constant = sum(len(str(message["content"])) for message in prompt(""))
    room = int((gateway.context(route) - ANSWER_TOKENS) * CHARACTERS_PER_TOKEN) - constant
    while True:
        lines, sentences = lay_out(passages, room)
        if not sentences:
            raise ContextTooLongError(
                f"The route {route!r} has a context of {gateway.context(route)} tokens: too few "
                "for the prompt and one sentence. Use a model with more, or a shorter persona."
            )
        try:
            reply = await gateway.chat(
                prompt(shown(lines)),
                route=route,
                schema=SCHEMA,
                schema_name="answer",
                max_tokens=ANSWER_TOKENS,
            )
        except ContextTooLongError:
            room = min(room, len(shown(lines))) // 2
            continue
        assert isinstance(reply.data, dict), "the gateway validated it against the schema"
        return reply.data, sentences


def _checked(said: dict[str, Any], shelf: Shelf) -> tuple[list[Sentence], list[str]]:
    """What is proven of what the model said, and what is not."""
    kept: dict[str, Sentence] = {}
    dropped: list[str] = []
    for each in said["sentences"] if said["found"] else []:
        checked = shelf.check(Claim(**each))
        if isinstance(checked, Refused):
            logger.info("a sentence was dropped: %s", checked.reason)
            dropped.append(checked.text)
        else:
            kept.setdefault(checked.text, checked)
    return list(kept.values()), dropped


async def _judged(
    question: str, sentences: Sequence[Sentence], gateway: Gateway, route: str
) -> tuple[list[Sentence], list[str]]:
    """The sentences whose proof answers the question, and the texts of the others."""
    verdicts = await asyncio.gather(
        *(_answers(question, sentence, gateway, route) for sentence in sentences)
    )
    judged = list(zip(sentences, verdicts, strict=True))
    return (
        [sentence for sentence, answers in judged if answers],
        [sentence.text for sentence, answers in judged if not answers],
    )


async def _answers(question: str, sentence: Sentence, gateway: Gateway, route: str) -> bool:
    proof = " ".join(citation.quote for citation in sentence.citations)
    reply = await gateway.chat(
        judging.messages(question, proof),
        route=route,
        schema=judging.SCHEMA,
        schema_name="judgement",
        max_tokens=judging.ANSWER_TOKENS,
    )
    return bool(reply.data["answers"])
