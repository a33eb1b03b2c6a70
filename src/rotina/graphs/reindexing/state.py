"""State of the reindexing graph: which vectors are made; the database knows which chunks lack."""

from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict


class Reindexed(BaseModel):
    """What embedding anew has come to."""

    model_config = ConfigDict(frozen=True)

    collection: str
    route: str
    model: str | None
    """None while the collection is empty."""
    chunks: int
    unchanged: bool = False
    """The route answered already, by the model it leads to: nothing was embedded."""


class ReindexingState(TypedDict, total=False):
    """Input: the first three. Output: `reindexed`, a `Reindexed`."""

    collection: str
    route: str
    keep: bool
    space: str
    """The space that is filled, by id: another run may fill the same one."""
    unchanged: bool
    batches: int
    """How many were embedded."""
    reindexed: NotRequired[dict[str, Any]]
