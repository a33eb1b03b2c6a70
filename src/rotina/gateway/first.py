"""The first answer of several deployments that is one."""

import logging
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from rotina.errors import ModelError
from rotina.gateway.answer import ChatAnswer, Embeddings, Reranking
from rotina.gateway.budget import Need
from rotina.gateway.call import Call, Origin
from rotina.gateway.ledger import CallKind
from rotina.gateway.race import race
from rotina.gateway.recorder import Recorded
from rotina.gateway.routing import Choice

log = logging.getLogger(__name__)

Answered = TypeVar("Answered", ChatAnswer, Embeddings, Reranking)


async def first_answer(
    kind: CallKind,
    choice: Choice,
    need: Callable[[], Need] | None,
    ask: Callable[[Call], Awaitable[Answered]],
    place: Recorded | None,
    origin: Origin,
    hedge: Literal["p95"] | float | None = None,
    doubts: Callable[[Answered], Awaitable[str | None]] | None = None,
) -> Answered:
    """The first answer of the choice that is one, kept where a run records."""

    def next_call() -> Call:
        return Call(kind, choice, origin, need, keeps=place is not None)

    doubted: tuple[Answered, Call] | None = None
    while True:
        call = next_call()
        after = call.lane.pace.p95 if hedge == "p95" else hedge
        try:
            if after is None or choice.last:
                found = await ask(call), call
            else:
                found = await race(ask, call, next_call, after)
        except ModelError as error:
            if choice.goes_on(call.lane, error):
                continue
            if doubted is None:
                raise
            found = doubted  # better than nothing
        else:
            why = None if doubts is None or choice.over else await doubts(found[0])
            if why is not None:
                log.info("%s answered, but %s; asking %s", call.lane, why, choice.lanes[0])
                doubted = found
                continue
        answer, call = found
        if place is not None:
            await place.keep(answer.model_dump_json().encode())
            await call.entered()
        return answer
