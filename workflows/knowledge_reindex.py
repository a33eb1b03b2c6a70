"""knowledge_reindex: a collection is embedded anew, by another model, while it is used."""

from pydantic import BaseModel

from rotina.graphs.reindexing import Reindexed, build_reindexing
from rotina.runs import FlowControl, Workflow


class ReindexInput(BaseModel):
    """What starts a run."""

    collection: str
    route: str
    """The gateway's route that embeds from now on."""
    keep: bool = False
    """Whether the old vectors stay beside the new ones."""


class ReindexOutput(BaseModel):
    """What a run ends with."""

    reindexed: Reindexed


KNOWLEDGE_REINDEX = Workflow(
    name="knowledge_reindex",
    description="Embed a collection by another route, while the old vectors answer.",
    input=ReindexInput,
    output=ReindexOutput,
    build=build_reindexing,
    max_steps=1_000_000,
    queue="cpu",
    # Two at once would do no harm, but embed most of it twice.
    flow=FlowControl(key="collection", running=1),
)
