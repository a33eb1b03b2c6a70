"""Messages that nobody could make a run of: kept, with the reason, instead of retried for ever."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from rotina.database import Pool, load_queries, tenant_scope

MAX_LIST = 1000


class Rejected(BaseModel):
    """A message that was refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    tenant: str
    source: str
    """The door it came through: `celery`, or `stream:NAME`."""
    reference: str
    """How the source names it: a Celery task's id, a stream entry's id."""
    payload: str
    """What it held, as JSON text."""
    reason: str
    at: datetime


class RejectedStore:
    """The refused messages of one tenant."""

    def __init__(self, pool: Pool, *, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant

    async def add(
        self, *, source: str, reference: str, payload: Mapping[str, Any], reason: str
    ) -> None:
        """Keep a message; the same one again changes nothing."""
        row = {
            "tenant": self._tenant,
            "source": source,
            "reference": reference,
            "payload": storable(json.dumps(payload, ensure_ascii=False, default=repr)),
            "reason": storable(reason),
        }
        async with self._pool.connection() as connection:
            await connection.execute(load_queries("rotina.triggers")["insert_rejected"], row)

    async def list_rejected(self, *, before: int | None = None, limit: int = 20) -> list[Rejected]:
        """Latest first; `before` pages on from the last id seen."""
        values = {
            "tenant": self._tenant,
            "before": before,
            "limit": max(1, min(limit, MAX_LIST)),
        }
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(
                load_queries("rotina.triggers")["list_rejected"], values
            )
            return [Rejected.model_validate(row) for row in await cursor.fetchall()]


def storable(text: str) -> str:
    """`text` as PostgreSQL stores it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
