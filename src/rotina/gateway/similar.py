"""The cache by meaning: a question much like one that was answered gets its answer again.

Off unless a route asks for it, because two questions may be alike and want different answers. Never
across tenants; and never between questions whose numbers differ.
"""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rotina.errors import ModelError
from rotina.gateway.answer import ChatAnswer, ChatRequest, Embeddings
from rotina.gateway.cache import AnswerCache, free
from rotina.settings import SimilarCache

_WITH_DIGITS = re.compile(r"\S*\d\S*")


class SimilarShelf:
    """One question's place in the cache by meaning."""

    def __init__(
        self,
        cache: AnswerCache,
        tenant: str,
        policy: SimilarCache,
        asked: Mapping[str, Any],
        question: str,
        embed: Callable[..., Awaitable[Embeddings]],
    ) -> None:
        """`asked` is all that the answer depends on besides the text of the question."""
        self._cache = cache
        self._tenant = tenant
        self._policy = policy
        self._asked = asked
        self._question = question
        self._embed = embed
        self._place: tuple[bytes, list[float]] | None = None

    async def find(self) -> ChatAnswer | None:
        """The answer to a question like this one, as one that costs nothing."""
        try:
            found = await self._embed([self._question], route=self._policy.route, record=False)
        except ModelError:
            return None
        words = _WITH_DIGITS.findall(self._question.casefold())
        numbers = sorted(word.strip(".,;:!?()[]\"'") for word in words)
        asked = {**self._asked, "numbers": numbers, "embedding": found.model}
        context = _digest(json.dumps(asked, sort_keys=True, default=str))
        self._place = context, found.vectors[0]
        known = await self._cache.find_similar(self._tenant, *self._place, self._policy.similarity)
        return None if known is None else free(known, found.latency_ms)

    async def keep(self, answer: ChatAnswer) -> None:
        """Give it to whoever asks alike."""
        if self._place is not None:
            context, vector = self._place
            question = _digest(self._question)
            await self._cache.keep_similar(
                self._tenant, context, question, vector, answer, self._policy.seconds
            )


def split(request: ChatRequest) -> tuple[dict[str, Any], str] | None:
    """What was asked, without the text of the last message, and that text; None where there is
    none, or where it may call tools: whether they are called does not depend on words alone."""
    if not request.messages or request.tools:
        return None
    last = request.messages[-1]
    text = last["content"]
    if last["role"] != "user" or not isinstance(text, str) or not text.strip():
        return None
    rest = [*request.messages[:-1], {**last, "content": None}]
    return {**request.asked(), "messages": rest}, text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()
