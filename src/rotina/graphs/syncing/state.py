"""State of the syncing graph: small, whatever the source holds, for the database knows the rest."""

from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict


class Synced(BaseModel):
    """What a sync did."""

    model_config = ConfigDict(frozen=True)

    collection: str
    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    deleted: int = 0


class SyncingState(TypedDict, total=False):
    """Input: the first three. Output: `synced`, a `Synced`."""

    collection: str
    source: str
    retry_failed: bool
    began: str
    """When the listing began, by the database's clock."""
    batches: int
    """How many batches of documents are done."""
    synced: NotRequired[dict[str, Any]]
