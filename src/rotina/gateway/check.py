"""Whether a reply is an answer: complete, not refused, not empty, valid. Never a guess."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from rotina.errors import ModelOutputError, ModelTruncatedError
from rotina.gateway.answer import ChatChunk, Reply, Usage
from rotina.gateway.failure import excerpt
from rotina.gateway.lane import Lane
from rotina.gateway.structured import Contract, Examined

_COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
_CUT = frozenset({"length", "max_tokens"})
_LARGEST = sys.float_info.max
_NOTHING = Examined(None, is_json=False, problems=())


def check_reply(
    reply: Reply,
    contract: Contract | None,
    lane: Lane,
    *,
    fenced: bool = False,
    shown: Reply | None = None,
) -> Examined:
    """The answer's data (None without a contract, or when tools are called), held to the contract.

    `shown` is the reply as errors may show it. Raises `ModelOutputError` for anything that is not a
    complete answer.
    """
    _check_complete(shown or reply, lane)
    if reply.tool_calls:
        return _NOTHING
    if not reply.text.strip():
        raise ModelOutputError(f"{lane} answered nothing: the text is empty")
    return _NOTHING if contract is None else contract.examine(reply.text, fenced=fenced)


def not_valid(reply: Reply, problem: str, lane: Lane) -> ModelOutputError:
    """The error for an answer against its schema."""
    return ModelOutputError(
        f"The answer of {lane} {excerpt(problem)} It begins: {excerpt(reply.text)}"
    )


def _check_complete(reply: Reply, lane: Lane) -> None:
    reason = reply.finish_reason
    if reply.refusal:
        raise ModelOutputError(f"{lane} refused to answer: {excerpt(reply.refusal)}")
    if reason == "content_filter":
        raise ModelOutputError(f"The answer of {lane} was stopped by a content filter")
    if reason in _CUT:
        raise ModelTruncatedError(
            f"The answer of {lane} was cut at its length limit: raise max_tokens, send a shorter "
            f"prompt, or ask for less. It begins: {excerpt(reply.text) or 'nothing'}"
        )
    if reason is None:
        raise ModelOutputError(f"The answer of {lane} ended without a finish_reason: it may be cut")
    if reason not in _COMPLETE:
        raise ModelOutputError(f"{lane} stopped for the unknown reason {excerpt(reason)!r}")


def check_vectors(vectors: Sequence[Any], texts: int, dimension: int, lane: Lane) -> None:
    """Raises `ModelOutputError` unless there is one finite vector of `dimension` a text."""
    if len(vectors) != texts:
        raise ModelOutputError(f"{lane} returned {len(vectors)} vectors for {texts} texts")
    for vector in vectors:
        if not isinstance(vector, list) or not vector or len(vector) != dimension:
            raise ModelOutputError(f"{lane} returned vectors of different or no dimensions")
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in vector):
            raise ModelOutputError(f"{lane} returned a vector with values that are not numbers")


def check_scores(scores: Sequence[tuple[Any, Any]], documents: int, lane: Lane) -> None:
    """Raises `ModelOutputError` unless each of the documents has one finite score."""
    for index, score in scores:
        if type(index) is not int or not 0 <= index < documents:
            raise ModelOutputError(
                f"{lane} scored document {excerpt(repr(index))}, and was given {documents}"
            )
        # Compared, because an integer may be too large to be a float.
        if type(score) not in {int, float} or not -_LARGEST <= score <= _LARGEST:
            raise ModelOutputError(
                f"{lane} gave document {index} the score {excerpt(repr(score))}, which is no number"
            )
    different = len({index for index, _ in scores})
    if different != documents or len(scores) != documents:
        raise ModelOutputError(
            f"{lane} returned {len(scores)} scores, of {different} different documents, for "
            f"{documents} documents"
        )


class Assembly:
    """Puts the pieces of a streamed answer together."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._model: str | None = None

    def add(self, chunk: ChatChunk) -> None:
        """The next piece."""
        self._texts.append(chunk.text)
        self._tool_calls += chunk.tool_calls
        if chunk.refusal:
            self._refusals.append(chunk.refusal)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model

    @property
    def begun(self) -> bool:
        """Whether there was a piece."""
        return bool(self._texts)

    @property
    def ended(self) -> bool:
        """Whether the answer has said that it is over."""
        return self._finish_reason is not None

    def reply(self) -> Reply:
        """What the pieces make; its tool calls are pieces still."""
        return Reply(
            text="".join(self._texts),
            finish_reason=self._finish_reason,
            model=self._model,
            usage=self._usage,
            tool_calls=tuple(self._tool_calls),
            refusal="".join(self._refusals) or None,
        )
