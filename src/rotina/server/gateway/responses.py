"""The gateway in OpenAI's protocol: `/v1/responses`, its stateless core."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from rotina.errors import ModelOutputError, RotinaError
from rotina.gateway import ChatChunk, Gateway, Usage
from rotina.server.gateway.chat import UNFINISHED, legitimate
from rotina.server.gateway.exchange import Exchange
from rotina.server.gateway.models import check_model
from rotina.server.gateway.response_forms import ResponseRequest
from rotina.server.gateway.response_input import messages_of, parameters_of
from rotina.server.gateway.response_output import (
    Event,
    Head,
    Output,
    Status,
    incomplete_reason,
    response_of,
)
from rotina.server.gateway.trail import Trail
from rotina.server.problems import problem_of
from rotina.server.streaming import encode_event


async def respond(exchange: Exchange) -> None:
    """One answer of a model, whole or as events; nothing is stored."""
    wanted = await exchange.form(ResponseRequest)
    check_model(exchange.face.settings, wanted.model)
    if wanted.stream:
        await exchange.stream(_Stream(wanted, exchange.gateway, exchange.trail).events())
        return
    asking = exchange.gateway.chat(messages_of(wanted), route=wanted.model, **parameters_of(wanted))
    answer = await exchange.while_connected(legitimate(asking))
    await exchange.answer(response_of(wanted, answer))


class _Stream:
    """One answer on its way, as events."""

    def __init__(self, wanted: ResponseRequest, gateway: Gateway, trail: Trail) -> None:
        self._wanted = wanted
        self._gateway = gateway
        self._trail = trail
        self._head = Head(wanted)
        self._output = Output()
        self._number = 0
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._refused = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events.

        What fails before the first piece is raised; later it is `response.failed`. Items are
        done once the answer is checked.
        """
        begun = False
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    if not begun:
                        begun = True
                        yield self._encode(self._opening())
                    if block := self._encode(self._output.add(chunk)):
                        yield block
        except RotinaError as error:
            if not begun:
                raise
            yield self._trail.comment() + self._encode([self._failure(error)])
            return
        reason = incomplete_reason(self._finish)
        status: Status = "completed" if reason is None else "incomplete"
        opening = [] if begun else self._opening()
        yield self._encode([*opening, *self._output.closing(status)])
        items = self._output.forms(status)
        body = self._head.body(status, items, usage=self._usage, reason=reason)
        ended = {"type": f"response.{status}", "response": body}
        yield self._trail.comment() + self._encode([ended])

    async def _chunks(self) -> AsyncGenerator[ChatChunk, None]:
        wanted = self._wanted
        stream = self._gateway.stream(
            messages_of(wanted), route=wanted.model, **parameters_of(wanted)
        )
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    self._usage = chunk.usage or self._usage
                    self._head.model = chunk.model or self._head.model
                    self._finish = chunk.finish_reason or self._finish
                    self._refused = self._refused or bool(chunk.refusal)
                    yield chunk
        except ModelOutputError:
            if self._finish not in UNFINISHED and not self._refused:
                raise

    def _opening(self) -> list[Event]:
        body = self._head.body("in_progress", [])
        return [
            {"type": "response.created", "response": body},
            {"type": "response.in_progress", "response": body},
        ]

    def _failure(self, error: RotinaError) -> Event:
        told = problem_of(error).openai()["error"]
        reason = {"code": told["code"] or "server_error", "message": told["message"]}
        items = self._output.forms("incomplete")
        body = self._head.body("failed", items, usage=self._usage, error=reason)
        return {"type": "response.failed", "response": body}

    def _encode(self, events: Iterable[Event]) -> bytes:
        blocks = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            blocks.append(encode_event(numbered, name=event["type"]))
            self._number += 1
        return b"".join(blocks)
