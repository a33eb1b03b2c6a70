"""What a graph's nodes get through LangGraph's runtime context, never through a global."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from rotina.database import Pool
from rotina.gateway import Gateway
from rotina.knowledge import KnowledgeBase
from rotina.knowledge.document import Document
from rotina.knowledge.loading import Limits, load_in_child
from rotina.runs import (
    Attempt,
    Children,
    Conversation,
    Effects,
    FileReference,
    Recording,
    RunStore,
    open_conversation,
)

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Context:
    """The runtime context of one run."""

    run_id: UUID
    tenant: str
    gateway: Gateway
    """Every model; a node calls `at(its name)` so that the ledger knows who asked."""
    knowledge: KnowledgeBase
    """The tenant's collections; what it embeds is recorded for this run."""
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


def make_context(pool: Pool, gateway: Gateway, limits: Limits, attempt: Attempt) -> Context:
    """The context of a run that a worker has claimed."""
    run, recording = attempt.run, attempt.recording
    effects = Effects(attempt.journal.fence)

    async def conversation(thread_id: UUID) -> Conversation:
        return await open_conversation(
            pool, tenant=run.tenant, run_id=run.id, thread_id=thread_id, effects=effects
        )

    async def query(sql: LiteralString, values: Mapping[str, Any]) -> Rows:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("set transaction read only")
            return await (await connection.execute(sql, values)).fetchall()

    gateway = gateway.recorded(recording)
    own = gateway.bound(run_id=run.id, tenant=run.tenant, node="knowledge")
    return Context(
        run_id=run.id,
        tenant=run.tenant,
        gateway=gateway,
        knowledge=KnowledgeBase(pool, own, run.tenant),
        effects=effects,
        children=Children(attempt.journal.fence, attempt.registry, run, attempt.tell),
        recording=recording,
        read_file=RunStore(pool, tenant=run.tenant).file,
        limits=limits,
        conversation=conversation,
        query=query,
    )
