"""The door every trigger leads to: a committed run and a hint, or a refused message.

What a sender did wrong is kept as a row in `rotina.rejected`, so that one bad message neither
comes back for ever nor vanishes. What is wrong on our side (no database) is raised: the trigger
keeps its message and tries again, and the idempotency key makes the repetition harmless.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rotina.database import Pool
from rotina.errors import DatabaseError, InvalidInputError, RotinaError
from rotina.runs import Accepted, Registry, RunStore, Tell
from rotina.triggers.rejected import RejectedStore

logger = logging.getLogger(__name__)

TOO_MUCH = (errors.ProgramLimitExceeded, errors.StatementTooComplex, psycopg.DataError)
"""PostgreSQL refuses the message itself: it would refuse it again."""


def is_outage(error: BaseException) -> bool:
    """Whether `error` is the database's state and not the message's fault."""
    away = isinstance(error, (psycopg.Error, PoolTimeout, DatabaseError))
    return away and not isinstance(error, TOO_MUCH)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class StartMessage(BaseModel):
    """What a queue's message holds. An unknown field is an error: it may be a misspelt key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow: str = Field(min_length=1, max_length=200)
    input: Annotated[dict[str, Any], BeforeValidator(_parsed)] = Field(default_factory=dict)
    """A JSON object, or its text."""
    key: str | None = Field(default=None, min_length=1, max_length=500)
    """Idempotency key; the trigger has a default."""
    tenant: str | None = Field(default=None, min_length=1, max_length=200)
    """Whoever reaches the broker is trusted to name it; default: the deployment's own."""
    priority: int | None = None
    """Default: the workflow's."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "StartMessage":
        """Raises `InvalidInputError` with every problem in one line."""
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_context=False)
            )
            known = ", ".join(cls.model_fields)
            raise InvalidInputError(
                f"The message is not valid: {problems} (fields: {known})"
            ) from None


@dataclass(frozen=True)
class Door:
    """Accepts runs for triggers, of any tenant."""

    pool: Pool
    registry: Registry
    tenant: str
    """Whose run it is when a message names no tenant."""
    max_attempts: int
    tell: Tell

    async def accept(
        self,
        workflow: str,
        value: Mapping[str, Any],
        *,
        key: str,
        tenant: str,
        priority: int | None = None,
    ) -> Accepted:
        """Commit a run and tell nobody. Errors as in `RunStore.accept`."""
        store = RunStore(self.pool, tenant=tenant, max_attempts=self.max_attempts)
        return await store.accept(self.registry[workflow], value, key=key, priority=priority)

    async def announce(self, accepted: Accepted) -> None:
        """Tell the queue of a run that is new; the sweeper does it for one that is not."""
        if accepted.news:
            await self.tell(accepted.queue, 1)

    async def receive(
        self, fields: Mapping[str, Any], *, source: str, reference: str, key: str
    ) -> Accepted | None:
        """The run for a message, or None: it was refused and is kept in `rotina.rejected`.

        `key` names the run when the message brings no key of its own. Raises what says that the
        database is away; the message must then be offered again.
        """
        try:
            message = StartMessage.read(fields)
            accepted = await self.accept(
                message.workflow,
                message.input,
                key=message.key or key,
                tenant=message.tenant or self.tenant,
                priority=message.priority,
            )
        except Exception as error:  # a project's input model may raise anything
            if is_outage(error):
                raise
            if not isinstance(error, RotinaError):
                logger.exception("%s %s cannot be read", source, reference)
            await self._reject(fields, source, reference, f"{type(error).__name__}: {error}")
            return None
        await self.announce(accepted)
        return accepted

    async def _reject(
        self, fields: Mapping[str, Any], source: str, reference: str, reason: str
    ) -> None:
        logger.error("refused %s %s: %s", source, reference, reason)
        tenant = fields.get("tenant")
        known = tenant if isinstance(tenant, str) and tenant.isprintable() and tenant else None
        store = RejectedStore(self.pool, tenant=known or self.tenant)
        await store.add(source=source, reference=reference, payload=fields, reason=reason)
