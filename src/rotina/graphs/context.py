"""What a graph's nodes get through LangGraph's runtime context, never through a global."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from rotina.database import Pool
from rotina.gateway import Gateway
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.document import Document
from rotina.knowledge.loading import Limits, load_in_child
from rotina.knowledge.memory import RotinaStore
from rotina.runs import (
    Attempt,
    Children,
    Conversation,
    Effects,
    FileReference,
    Recording,
    Thread,
    ThreadMessage,
    open_conversation,
)

Rows = list[dict[str, Any]]

MSGPACK = "msgpack"
_SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)
"""Rows keep their types: dates, decimals, UUIDs."""


@dataclass(frozen=True)
class Context:
    """The runtime context of one run."""

    run_id: UUID
    tenant: str
    gateway: Gateway
    """Every model; a node calls `at(its name)` so that the ledger knows who asked."""
    knowledge: KnowledgeBase
    """The tenant's collections; what it embeds is recorded for this run."""
    memory: RotinaStore
    """What the tenant's agents remember; to a node it is `runtime.store`."""
    effects: Effects
    """The only way for a node to change anything outside its state."""
    children: Children
    """Starts other runs, and waits for them."""
    recording: Recording
    """What the run was told; the gateway and `@step` use it."""
    read_file: Callable[[FileReference], Awaitable[bytes]]
    """The bytes of a file stored with the run."""
    limits: Limits
    """What a document may cost to read."""
    source_hosts: Sequence[str]
    """Hosts that documents may be fetched from though their addresses are private."""
    conversation: Callable[[UUID], Awaitable[Conversation]]
    """The thread of the message that this run answers; see `rotina.runs.open_conversation`."""
    query: Callable[[LiteralString, Mapping[str, Any]], Awaitable[Rows]]
    """Rows of the project's own tables, read only; the tenant is the statement's business."""

    async def load(self, reference: FileReference) -> Document:
        """The text of a file stored with the run, parsed in a child process.

        Raises `DocumentError` when it has none, or costs more than `limits` allow.
        """
        content = await self.read_file(reference)
        return await load_in_child(
            content, name=reference.name, media_type=reference.media_type, limits=self.limits
        )

    def at(self, node: str) -> Gateway:
        """The gateway, recording calls for this run and node."""
        return self.gateway.bound(run_id=self.run_id, tenant=self.tenant, node=node)


def make_context(
    pool: Pool,
    gateway: Gateway,
    limits: Limits,
    attempt: Attempt,
    *,
    source_hosts: Sequence[str] = (),
) -> Context:
    """The context of a run that a worker has claimed, or that is replayed.

    What its nodes read from PostgreSQL is recorded, so that a replay needs neither.
    """
    run, recording, effects = attempt.run, attempt.recording, attempt.effects

    async def conversation(thread_id: UUID) -> Conversation:
        place = await recording.recall("conversation", {"thread": str(thread_id)})
        if place.answer is not None:
            heard = _Heard.model_validate_json(place.answer)
            return Conversation(heard.thread, heard.history, run.id, effects)
        opened = await open_conversation(
            pool, tenant=run.tenant, run_id=run.id, thread_id=thread_id, effects=effects
        )
        heard = _Heard(thread=opened.thread, history=opened.history)
        place.add(heard.model_dump_json().encode())
        return opened

    async def query(sql: LiteralString, values: Mapping[str, Any]) -> Rows:
        place = await recording.recall("query", {"sql": sql, "values": values})
        if place.answer is not None:
            rows: Rows = _SERDE.loads_typed((MSGPACK, place.answer))
            return rows
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("set transaction read only")
            rows = await (await connection.execute(sql, values)).fetchall()
        encoding, packed = _SERDE.dumps_typed(rows)
        assert encoding == MSGPACK, "rows are not bytes"
        place.add(packed)
        return rows

    gateway = gateway.recorded(recording).bound(
        run_id=run.id, tenant=run.tenant, workflow=run.workflow
    )
    own = gateway.bound(run_id=run.id, tenant=run.tenant, node="knowledge")
    knowledge = KnowledgeBase(pool, own, run.tenant)
    return Context(
        run_id=run.id,
        tenant=run.tenant,
        gateway=gateway,
        knowledge=knowledge,
        memory=RotinaStore(knowledge),
        effects=effects,
        children=attempt.children,
        recording=recording,
        read_file=attempt.read_file,
        limits=limits,
        source_hosts=source_hosts,
        conversation=conversation,
        query=query,
    )


class _Heard(BaseModel):
    """A conversation as it is recorded."""

    thread: Thread
    history: list[ThreadMessage]
