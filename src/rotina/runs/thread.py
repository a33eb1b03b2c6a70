"""Threads: durable conversations. Each message of a customer is a run that replies once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field
from uuid_utils.compat import uuid7

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import InvalidInputError, ThreadNotFoundError, TryLaterError
from rotina.runs.effects import Effects
from rotina.runs.workflow import Workflow

MAX_LIST = 1000
TURN_SECONDS = 1.0
REPLY = "reply"


class MessageInput(BaseModel):
    """Input of a conversational workflow; subclass it to add fields with defaults."""

    thread: UUID
    text: str = Field(min_length=1, max_length=20_000)


class Thread(BaseModel):
    """A conversation with one customer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    workflow: str
    """The workflow that answers each message."""
    customer: str | None
    state: dict[str, Any]
    """What the agent remembers from message to message."""
    created_at: datetime


class ThreadMessage(BaseModel):
    """One line of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    thread_id: UUID
    run_id: UUID
    role: Literal["user", "assistant"]
    text: str
    data: dict[str, Any]
    """With a reply: citations, status, what the agent did."""
    created_at: datetime


class ThreadStore:
    """The threads of one tenant."""

    def __init__(self, pool: Pool, *, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant
        self._sql = load_queries("rotina.runs")

    async def open(self, workflow: Workflow, *, customer: str | None = None) -> Thread:
        """Begin a conversation. Raises `InvalidInputError` when the workflow holds none."""
        if not is_conversational(workflow):
            raise InvalidInputError(
                f"{workflow.name!r} does not converse: its input is no MessageInput. "
                "Start a run of it instead."
            )
        rows = await self._all(
            "insert_thread", id=uuid7(), workflow=workflow.name, customer=customer
        )
        return Thread.model_validate(rows[0])

    async def get(self, thread_id: UUID) -> Thread:
        """One thread, or `ThreadNotFoundError`."""
        rows = await self._all("get_thread", id=thread_id)
        if not rows:
            raise _unknown(thread_id)
        return Thread.model_validate(rows[0])

    async def list_threads(self, *, before: UUID | None = None, limit: int = 20) -> list[Thread]:
        """Threads, newest first; `before` pages on from the last id seen."""
        rows = await self._all("list_threads", before=before, limit=max(1, min(limit, MAX_LIST)))
        return [Thread.model_validate(row) for row in rows]

    async def messages(self, thread_id: UUID, *, after: int = 0) -> list[ThreadMessage]:
        """What was said after message `after`, oldest first."""
        await self.get(thread_id)
        rows = await self._all("list_messages", thread_id=thread_id, after=after)
        return [ThreadMessage.model_validate(row) for row in rows]

    async def _all(self, name: str, **values: Any) -> list[dict[str, Any]]:
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql[name], {"tenant": self._tenant, **values})
            return await cursor.fetchall()


@dataclass(frozen=True)
class Conversation:
    """A thread as the run that answers one of its messages sees it."""

    thread: Thread
    history: list[ThreadMessage]
    """What was said before this run's message, oldest first."""
    run_id: UUID
    effects: Effects

    async def reply(
        self, text: str, data: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> None:
        """Answer this run's message: once, whatever happens to the worker.

        The reply and the thread's new `state` (None: unchanged) commit together.
        """
        sql = load_queries("rotina.runs")

        async def write(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
            await connection.execute(
                sql["insert_message"],
                {
                    "thread_id": self.thread.id,
                    "run_id": self.run_id,
                    "role": "assistant",
                    "text": text,
                    "data": Jsonb(dict(data)),
                },
            )
            if state is not None:
                values = {"id": self.thread.id, "state": Jsonb(dict(state))}
                await connection.execute(sql["update_thread_state"], values)
            return {"thread": str(self.thread.id)}

        await self.effects.transact(REPLY, write)


async def open_conversation(
    pool: Pool, *, tenant: str, run_id: UUID, thread_id: UUID, effects: Effects
) -> Conversation:
    """The conversation for the run that answers a message of it.

    Raises `ThreadNotFoundError`, and `TryLaterError` while an earlier message of the same thread
    is still being answered: messages are taken in turn.
    """
    sql = load_queries("rotina.runs")
    thread = await ThreadStore(pool, tenant=tenant).get(thread_id)
    async with tenant_scope(pool, tenant) as connection:
        earlier = await connection.execute(sql["unanswered_message"], {"run_id": run_id})
        if await earlier.fetchone() is not None:
            raise TryLaterError(
                f"an earlier message of thread {thread_id} is still being answered",
                seconds=TURN_SECONDS,
            )
        cursor = await connection.execute(sql["earlier_messages"], {"run_id": run_id})
        history = [ThreadMessage.model_validate(row) for row in await cursor.fetchall()]
    return Conversation(thread, history, run_id, effects)


async def lock_thread(
    connection: AsyncConnection[DictRow], workflow: Workflow, *, tenant: str, thread_id: UUID
) -> None:
    """Hold a thread while a message for `workflow` is added to it.

    Messages are numbered before they commit: without the lock, of two at once the second could be
    answered before the first is seen. Raises `ThreadNotFoundError`, or `InvalidInputError` when
    another workflow answers the thread.
    """
    values = {"id": thread_id, "tenant": tenant}
    cursor = await connection.execute(load_queries("rotina.runs")["lock_thread"], values)
    row = await cursor.fetchone()
    if row is None:
        raise _unknown(thread_id)
    if row["workflow"] != workflow.name:
        raise InvalidInputError(
            f"Thread {thread_id} is a conversation with {row['workflow']!r}, not "
            f"{workflow.name!r}: start a run of {row['workflow']!r}, or open another thread"
        )


def is_conversational(workflow: Workflow) -> bool:
    """Whether the workflow answers the messages of a thread."""
    return issubclass(workflow.input, MessageInput)


def _unknown(thread_id: UUID) -> ThreadNotFoundError:
    return ThreadNotFoundError(
        f"There is no thread {thread_id}: open one first, or leave the id out"
    )
