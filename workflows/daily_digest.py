"""daily_digest: what happened yesterday: figures by SQL, and what the tickets say, with quotes.

A model tells what customers wrote; each of its sentences cites a ticket, and code checks it.
"""

from datetime import date, datetime, time, timedelta
from typing import Any, TypedDict
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, field_validator

from rotina.errors import ModelOutputError
from rotina.graphs import Context
from rotina.graphs.answering import Answer, answer
from rotina.graphs.language import Language
from rotina.knowledge import Passage
from rotina.runs import Workflow, now

MOST_TICKETS = 12
"""Tickets that the model is shown, urgent ones first; all of them are counted."""
LONGEST_TICKET = 400
"""Characters of a ticket that the model is shown."""
QUESTION: dict[Language, str] = {
    "en": "What do these customers report?",
    "pt": "O que estes clientes relatam?",
}
_TICKETS = UUID("5f0c1b52-9c4e-4a53-8f0e-6d1c2f7a9b10")
"""Namespace of the ids under which tickets are cited."""


class DigestInput(BaseModel):
    """What starts a run; a schedule gives `fire_time`."""

    day: date | None = None
    """Default: the day before `fire_time`, or before today."""
    fire_time: datetime | None = None
    time_zone: str = "UTC"
    """Where a day begins and ends: an IANA name such as America/Sao_Paulo."""
    language: Language = "en"

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"{value!r} is no time zone: use a name as in UTC or Europe/Lisbon"
            ) from None
        return value


class DigestOutput(BaseModel):
    """What a run ends with."""

    day: date
    figures: list[str]
    """What was counted, a line each."""
    tickets: Answer | None
    """What customers wrote, each sentence with its ticket; None where there were no tickets."""


class DigestState(TypedDict, total=False):
    """JSON only, so that every checkpoint is plain data."""

    day: str | None
    fire_time: str | None
    time_zone: str
    language: Language
    figures: list[str]
    messages: list[dict[str, Any]]
    tickets: dict[str, Any] | None


async def settle_day(state: DigestState) -> DigestState:
    """The day to tell of: kept in the state, so that a resumed run tells of the same one."""
    if state.get("day"):
        return {}
    zone = ZoneInfo(state["time_zone"])
    fired = state.get("fire_time")
    moment = datetime.fromisoformat(fired) if fired else await now()
    return {"day": (moment.astimezone(zone).date() - timedelta(days=1)).isoformat()}


async def count(state: DigestState, runtime: Runtime[Context]) -> DigestState:
    """Runs by workflow and state, and tickets."""
    values = {"tenant": runtime.context.tenant, **_bounds(state)}
    runs = await runtime.context.query(
        """
        select workflow, state, count(*) as number from rotina.run
        where tenant = %(tenant)s and created_at >= %(since)s and created_at < %(until)s
        group by workflow, state order by workflow, state
        """,
        values,
    )
    tickets = await runtime.context.query(
        """
        select id, message, count(*) over () as number from ticket
        where tenant = %(tenant)s and created_at >= %(since)s and created_at < %(until)s
        order by priority = 'urgent' desc, id limit %(most)s
        """,
        {**values, "most": MOST_TICKETS},
    )
    figures = [f"{row['workflow']}: {row['number']} {row['state']}" for row in runs]
    figures.append(f"tickets: {tickets[0]['number'] if tickets else 0}")
    messages = [{"id": row["id"], "text": row["message"][:LONGEST_TICKET]} for row in tickets]
    return {"figures": figures, "messages": messages}


async def tell(state: DigestState, runtime: Runtime[Context]) -> DigestState:
    """A few sentences on the tickets, each with its proof; the figures stand by themselves."""
    if not state["messages"]:
        return {"tickets": None}
    language = state["language"]
    passages = [_passage(ticket["id"], ticket["text"]) for ticket in state["messages"]]
    try:
        told = await answer(
            QUESTION[language],
            passages,
            runtime.context.at("tell"),
            language=language,
            judged=False,
        )
    except ModelOutputError:
        told = Answer.unknown(language)
    return {"tickets": told.model_dump(mode="json")}


def _passage(number: int, text: str) -> Passage:
    """A ticket as a source that can be cited."""
    cited = uuid5(_TICKETS, str(number))
    return Passage(
        chunk_id=cited,
        document_id=cited,
        collection="tickets",
        document=f"ticket {number}",
        text=text,
        start=0,
        end=len(text),
        score=1.0,
        metadata={},
    )


def _bounds(state: DigestState) -> dict[str, datetime]:
    """The day's first moment and the next day's, in the time zone."""
    assert state["day"] is not None, "settled by the first node"
    zone = ZoneInfo(state["time_zone"])
    first = date.fromisoformat(state["day"])
    since, until = (datetime.combine(d, time(), zone) for d in (first, first + timedelta(days=1)))
    return {"since": since, "until": until}


def build() -> StateGraph[DigestState, Context, Any, Any]:
    """settle_day → count → tell."""
    graph = StateGraph(DigestState, context_schema=Context)
    graph.add_node("settle_day", settle_day)
    graph.add_node("count", count)
    graph.add_node("tell", tell)
    graph.add_edge(START, "settle_day")
    graph.add_edge("settle_day", "count")
    graph.add_edge("count", "tell")
    graph.add_edge("tell", END)
    return graph


DAILY_DIGEST = Workflow(
    name="daily_digest",
    description="Tell what a day's runs and tickets came to.",
    input=DigestInput,
    output=DigestOutput,
    build=build,
)
