"""Whether a request fits a deployment's context: looked at before anything is sent."""

import asyncio
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rotina.errors import ContextTooLongError
from rotina.gateway.answer import ChatRequest, Message
from rotina.gateway.budget import Need
from rotina.gateway.structured import INSTRUCTION
from rotina.gateway.tokens import (
    PER_REPLY,
    WORDS,
    Tokenizer,
    byte_length,
    count_extras,
    texts_of,
    tokenizer_of,
    weigh,
)
from rotina.gateway.truncate import Shortened, shorten
from rotina.settings import Deployment

T = TypeVar("T")

MARGIN = 1.4
"""What an estimate is multiplied by where it must not be too low; see benchmarks/tokens.py."""
ANSWER_SHARE = 4
"""A truncated prompt leaves this part of the context to an answer without `max_tokens`."""
_LONG = 100_000
"""Bytes that a slow tokenizer counts in a thread."""
_SEAM = 4
"""Tokens that a message may lose where its text meets what a template puts around it."""
_TEMPLATE = 512
"""Tokens that a template may add by itself: dates, a system message of its own."""
_AROUND = 16
"""Tokens that a template may add around one message."""
_THOUGHTS_END = "</think>"


class Meter:
    """Measures requests to one deployment."""

    def __init__(self, name: str, deployment: Deployment, folder: Path) -> None:
        """Reads nothing yet; `folder` is where relative paths of tokenizers begin."""
        self._name = name
        self._deployment = deployment
        self._folder = folder
        self._tokenizer: Tokenizer | None = None

    async def tokenizer(self) -> Tokenizer:
        """Loaded in a thread when first asked for: vocabularies take half a second.

        Raises `SettingsError` when it cannot be read.
        """
        if self._tokenizer is None:
            self._tokenizer = await asyncio.to_thread(self._load)
        return self._tokenizer

    async def check(self, request: ChatRequest) -> None:
        """Raises `ContextTooLongError` for a request that certainly does not fit.

        Costs next to nothing for what has no more bytes than the context has tokens: no token is
        less than a byte.
        """
        context = self._deployment.context
        size = _bytes(request)
        if size + (request.max_tokens or 1) <= context:
            return
        tokenizer = await self.tokenizer()
        # The bound of an estimate is a token for some words, and each has a letter and a space.
        if not tokenizer.exact and (size + len(request.messages)) // (2 * WORDS) < context:
            return
        # A server may end an answer early where the vocabulary is not known; what is asked for
        # counts where it is.
        answer = (request.max_tokens or 1) if tokenizer.exact else 1
        least = await _in_time(tokenizer, size, lambda: _least(request, tokenizer))
        if least + answer > context:
            raise ContextTooLongError(
                f"deployment {self._name!r} takes {context} tokens of prompt and answer, and the "
                f"prompt has at least {least} ({tokenizer.name}), the answer {answer}: send less, "
                "lower max_tokens, raise the deployment's `context` if its server takes more, or "
                'allow truncate="oldest"'
            )

    async def shortened(self, request: ChatRequest) -> tuple[ChatRequest, int]:
        """The request as its policy brings it into the context, and how many messages changed.

        What it must not touch may be too long by itself: `check` and the server say so.
        """
        assert request.truncate is not None
        policy, context = request.truncate, self._deployment.context
        room = context - (request.max_tokens or context // ANSWER_SHARE)
        if Need.of([request.messages, request.tools, request.schema], None).prompt <= room:
            return request, 0
        tokenizer = await self.tokenizer()

        def cut_down() -> Shortened:
            extras = count_extras(tokenizer, request.tools, request.schema)
            left = room - _raised(PER_REPLY + extras, tokenizer)
            weight = functools.partial(_surely, tokenizer=tokenizer)
            return shorten(request.messages, policy, left, weight)

        cut = await _in_time(tokenizer, _bytes(request), cut_down)
        return replace(request, messages=cut.messages), cut.changed

    async def need(self, request: ChatRequest, rounds: int = 1) -> Need:
        """What the request may use at most when it is sent so often: by bytes, or by an exact count
        where that is less."""
        asked: list[Any] = [request.messages, request.tools, request.schema]
        if request.schema is not None:
            # Some of it may stand in the prompt besides.
            asked += [request.schema, INSTRUCTION]
        need = Need.of(asked, request.max_tokens, rounds=rounds)
        if need.prompt <= _TEMPLATE:
            return need
        tokenizer = await self.tokenizer()
        if not tokenizer.exact:
            return need
        most = await _in_time(tokenizer, need.prompt, lambda: _most(request, tokenizer))
        return replace(need, prompt=min(need.prompt, most))

    def _load(self) -> Tokenizer:
        found = tokenizer_of(self._deployment, self._folder)
        found.count("loaded")
        return found


async def _in_time(tokenizer: Tokenizer, size: int, count: Callable[[], T]) -> T:
    """The count, in a thread where it would keep the loop waiting."""
    if size > _LONG and tokenizer.slow:
        return await asyncio.to_thread(count)
    return count()


def _surely(message: Message, tokenizer: Tokenizer) -> int:
    return _raised(weigh(message, tokenizer), tokenizer)


def _raised(count: int, tokenizer: Tokenizer) -> int:
    return count if tokenizer.exact else math.ceil(count * MARGIN)


def _bytes(request: ChatRequest) -> int:
    """Of the texts."""
    return sum(byte_length(text) for each in request.messages for text in texts_of(each))


def _least(request: ChatRequest, tokenizer: Tokenizer) -> int:
    """Tokens of the texts alone: tools, images and templates are worded by the server."""
    return sum(
        max(0, tokenizer.least(_seen(message, text)) - _SEAM)
        for message in request.messages
        for text in texts_of(message)
    )


def _seen(message: Message, text: str) -> str:
    """What every chat template keeps: some trim, and leave out an answer's thoughts."""
    if message["role"] == "assistant":
        text = text.rpartition(_THOUGHTS_END)[2]
    return text.strip()


def _most(request: ChatRequest, tokenizer: Tokenizer) -> int:
    """The exact count of the texts, and a token a byte for the rest."""
    total = _TEMPLATE
    for message in request.messages:
        texts = texts_of(message)
        total += _AROUND + sum(map(tokenizer.most, texts))
        if not isinstance(message["content"], str) or len(message) > 2:  # noqa: PLR2004 - role and content
            total += Need.of(message, None).prompt - sum(map(byte_length, texts))
    twice = [request.schema, INSTRUCTION] if request.schema is not None else []
    return total + Need.of([request.tools, request.schema, *twice], None).prompt
