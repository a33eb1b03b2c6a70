"""knowledge_sync: a collection catches up with a source that it follows."""

from pydantic import BaseModel

from rotina.graphs.syncing import Synced, build_syncing
from rotina.runs import Workflow


class SyncInput(BaseModel):
    """What starts a run."""

    collection: str
    source: str
    retry_failed: bool = False
    """Whether to try again what failed, though it has not changed."""


class SyncOutput(BaseModel):
    """What a run ends with."""

    synced: Synced


KNOWLEDGE_SYNC = Workflow(
    name="knowledge_sync",
    description="Bring a collection up to a source that it follows.",
    input=SyncInput,
    output=SyncOutput,
    build=build_syncing,
    max_steps=1_000_000,
    queue="cpu",
)
