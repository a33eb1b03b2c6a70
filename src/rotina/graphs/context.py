"""What a graph's nodes get through LangGraph's runtime context, never through a global."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from rotina.gateway import Gateway
from rotina.knowledge.loading import Limits
from rotina.runs import Effects, FileReference


@dataclass(frozen=True)
class Context:
    """The runtime context of one run."""

    run_id: UUID
    tenant: str
    gateway: Gateway
    """Every model; a node calls `at(its name)` so that the ledger knows who asked."""
    effects: Effects
    """The only way for a node to change anything outside its state."""
    read_file: Callable[[FileReference], Awaitable[bytes]]
    """The bytes of a file stored with the run."""
    limits: Limits
    """What a document may cost to read."""

    def at(self, node: str) -> Gateway:
        """The gateway, recording calls for this run and node."""
        return self.gateway.bound(run_id=self.run_id, tenant=self.tenant, node=node)
