"""ticket_triage: a message in; what it is, and an answer with citations or a ticket for a person.

Code decides where a message goes, by what three classifiers say and whether an answer is proven.
"""

from typing import Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import BaseModel, Field

from agents.sentiment import SENTIMENT
from agents.support import SUPPORT
from agents.tickets import INTENT, PRIORITY
from rotina.graphs import Context
from rotina.graphs.answering import Answer, answer, retrieve
from rotina.graphs.classification import ClassificationResult, classify
from rotina.graphs.language import Language, detect
from rotina.runs import Workflow

FOR_PEOPLE = frozenset({"complaint", "delivery_problem", "damaged_product"})
"""What a text from the help centre does not settle."""


class TriageInput(BaseModel):
    """What starts a run."""

    message: str = Field(min_length=1, max_length=20_000)
    customer: str | None = Field(default=None, max_length=500)


class TriageOutput(BaseModel):
    """What a run ends with."""

    language: Language
    intent: ClassificationResult
    sentiment: ClassificationResult
    priority: ClassificationResult
    outcome: Literal["answered", "person"]
    reason: str
    """Why it went there."""
    answer: Answer | None = None
    """With a citation for each sentence."""
    ticket: int | None = None
    """The ticket's number, where a person goes on."""


class TriageState(TypedDict, total=False):
    """JSON only, so that every checkpoint is plain data."""

    message: str
    customer: str | None
    language: Language
    intent: dict[str, Any]
    sentiment: dict[str, Any]
    priority: dict[str, Any]
    outcome: Literal["answered", "person"]
    reason: str
    answer: dict[str, Any] | None
    ticket: int | None


def recognise(state: TriageState) -> TriageState:
    """The language of the message, en or pt."""
    return {"language": detect(state["message"])}


async def find_intent(state: TriageState, runtime: Runtime[Context]) -> TriageState:
    """What the customer wants."""
    found = await classify(state["message"], INTENT, runtime.context.at("find_intent"))
    return {"intent": found.model_dump(mode="json")}


async def find_sentiment(state: TriageState, runtime: Runtime[Context]) -> TriageState:
    """How the customer feels."""
    found = await classify(state["message"], SENTIMENT, runtime.context.at("find_sentiment"))
    return {"sentiment": found.model_dump(mode="json")}


async def find_priority(state: TriageState, runtime: Runtime[Context]) -> TriageState:
    """How urgent it is."""
    found = await classify(state["message"], PRIORITY, runtime.context.at("find_priority"))
    return {"priority": found.model_dump(mode="json")}


def decide(state: TriageState) -> TriageState:
    """`person` for what no text settles, what is urgent, and what fits no intent."""
    intent, priority = state["intent"]["label"], state["priority"]["label"]
    if intent is None:
        return {"outcome": "person", "reason": "the message fits no intent"}
    if intent in FOR_PEOPLE:
        return {"outcome": "person", "reason": f"{intent} is for a person"}
    if priority == "urgent":
        return {"outcome": "person", "reason": "it is urgent"}
    return {"outcome": "answered", "reason": f"{intent} may be in the help centre"}


def after_decision(state: TriageState) -> Literal["answer_message", "open_ticket"]:
    """To the help centre, or to a person."""
    return "open_ticket" if state["outcome"] == "person" else "answer_message"


def after_answer(state: TriageState) -> Literal["open_ticket", "__end__"]:
    """Out with a proven answer; to a person without one."""
    return "open_ticket" if state["outcome"] == "person" else "__end__"


async def answer_message(state: TriageState, runtime: Runtime[Context]) -> TriageState:
    """An answer from the help centre; one without proof is none, and a person goes on."""
    spoken = state["language"]
    passages = await retrieve(
        runtime.context.knowledge,
        state["message"],
        SUPPORT.collections[spoken],
        k=SUPPORT.k,
        floor=SUPPORT.floor,
    )
    found = await answer(
        state["message"],
        passages,
        runtime.context.at("answer_message"),
        language=spoken,
        persona=SUPPORT.persona,
    )
    answered = found.model_dump(mode="json")
    if found.status == "answered":
        return {"answer": answered, "reason": "every sentence of the answer is proven"}
    return {"outcome": "person", "reason": "the help centre has no proven answer"}


async def open_ticket(state: TriageState, runtime: Runtime[Context]) -> TriageState:
    """A ticket for a person: one, whatever happens to this worker."""
    row = {
        "tenant": runtime.context.tenant,
        "run_id": runtime.context.run_id,
        "customer": state.get("customer"),
        "topic": state["intent"]["label"],
        "message": state["message"],
        "language": state["language"],
        "priority": state["priority"]["label"],
    }

    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        cursor = await connection.execute(
            """
            insert into ticket
                (tenant, run_id, customer, source, topic, message, language, priority)
            values (%(tenant)s, %(run_id)s, %(customer)s, 'triage', %(topic)s, %(message)s,
                    %(language)s, %(priority)s)
            returning id
            """,
            row,
        )
        return {"ticket": (await cursor.fetchone() or {})["id"]}

    return {"ticket": (await runtime.context.effects.transact("open_ticket", insert))["ticket"]}


def build() -> StateGraph[TriageState, Context, Any, Any]:
    """recognise → three classifiers side by side → decide → answer or ticket."""
    graph = StateGraph(TriageState, context_schema=Context)
    graph.add_node("recognise", recognise)
    graph.add_node("find_intent", find_intent)
    graph.add_node("find_sentiment", find_sentiment)
    graph.add_node("find_priority", find_priority)
    graph.add_node("decide", decide)
    graph.add_node("answer_message", answer_message)
    graph.add_node("open_ticket", open_ticket)
    graph.add_edge(START, "recognise")
    for classifier in ("find_intent", "find_sentiment", "find_priority"):
        graph.add_edge("recognise", classifier)
    graph.add_edge(["find_intent", "find_sentiment", "find_priority"], "decide")
    graph.add_conditional_edges("decide", after_decision)
    graph.add_conditional_edges("answer_message", after_answer)
    graph.add_edge("open_ticket", END)
    return graph


TICKET_TRIAGE = Workflow(
    name="ticket_triage",
    description="Sort a customer's message, then answer it with citations or open a ticket.",
    input=TriageInput,
    output=TriageOutput,
    build=build,
)
