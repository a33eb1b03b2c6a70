"""Nodes of reindexing. Which chunks lack a vector is in the database, so a worker that dies leaves
nothing to repeat but the batch that it had under way, and two runs at once fill the same vectors.
"""

from typing import Any, Literal
from uuid import UUID

from langgraph.runtime import Runtime
from langgraph.types import Command

from rotina.graphs.context import Context
from rotina.graphs.reindexing.state import Reindexed, ReindexingState
from rotina.knowledge.reindexing import begin, embed_batch, switch


class Nodes:
    """The nodes of one reindexing graph."""

    def __init__(self, batch: int) -> None:
        self._batch = batch

    async def begin(self, state: ReindexingState, runtime: Runtime[Context]) -> ReindexingState:
        """Find or make the space that is to be filled."""
        knowledge = runtime.context.knowledge
        asked = {"collection": state["collection"], "route": state["route"]}

        async def found() -> list[Any]:
            space = await begin(knowledge, state["collection"], state["route"])
            return [str(space.id), space.state == "current"]

        space, unchanged = await runtime.context.recording.once("reindex_begin", asked, found)
        return {"space": space, "unchanged": unchanged, "batches": 0}

    async def embed(
        self, state: ReindexingState, runtime: Runtime[Context]
    ) -> Command[Literal["embed", "switch"]]:
        """Embed one batch of what lacks a vector."""

        async def embedded() -> bool:
            knowledge, space = runtime.context.knowledge, UUID(state["space"])
            return await embed_batch(knowledge, state["collection"], space, self._batch)

        more = await runtime.context.recording.once("reindex_embed", _place(state), embedded)
        if not more:
            return Command(goto="switch")
        return Command(goto="embed", update={"batches": state["batches"] + 1})

    async def switch(
        self, state: ReindexingState, runtime: Runtime[Context]
    ) -> Command[Literal["embed", "__end__"]]:
        """Let the new vectors answer, unless documents came in the meantime."""
        knowledge, name = runtime.context.knowledge, state["collection"]

        async def switched() -> dict[str, Any] | None:
            if not await switch(knowledge, name, UUID(state["space"]), keep=state["keep"]):
                return None
            made = await knowledge.get(name)
            told = Reindexed(
                collection=name,
                route=state["route"],
                model=made.model,
                chunks=made.chunks,
                unchanged=state["unchanged"],
            )
            return told.model_dump(mode="json")

        told = await runtime.context.recording.once("reindex_switch", _place(state), switched)
        if told is None:
            return Command(goto="embed", update={"batches": state["batches"] + 1})
        return Command(goto="__end__", update={"reindexed": told})


def _place(state: ReindexingState) -> dict[str, Any]:
    return {"space": state["space"], "number": state["batches"]}
