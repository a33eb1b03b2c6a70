"""Reviews: a run that waits for a person, and goes on with the answer."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

import jsonschema
from langgraph.types import interrupt
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from rotina.database import Pool, load_queries, tenant_scope
from rotina.errors import (
    InvalidInputError,
    ReviewAnsweredError,
    ReviewExpiredError,
    ReviewNotFoundError,
)
from rotina.runs.questions import MARK
from rotina.runs.workflow import Queue

Form = TypeVar("Form", bound=BaseModel)

MAX_LIST = 1000
EXPIRED = "__deadline__"
"""In the answer of a review that nobody answered in time."""


def review(
    question: str,
    form: type[Form],
    *,
    data: Mapping[str, Any] | None = None,
    assignee: str | None = None,
    deadline: timedelta | None = None,
    otherwise: Form | None = None,
) -> Form:
    """Ask a person and wait, for days if need be; returns the answer as the form's model.

    To be called in a node, before anything else that must not happen twice: the run gives its
    worker back, and once somebody answered LangGraph runs the node again from its top. `data` is
    what the person should see (JSON), `assignee` a person or a queue of people.

    When nobody has answered by the `deadline`, counted from the question, `otherwise` is the
    answer; without it `ReviewExpiredError` is raised here.
    """
    request = {
        MARK: "review",
        "question": question,
        "form": form.model_json_schema(),
        "data": _plain(data or {}),
        "assignee": assignee,
        "seconds": None if deadline is None else deadline.total_seconds(),
        "otherwise": None if otherwise is None else otherwise.model_dump(mode="json"),
    }
    answer = interrupt(request)
    if EXPIRED in answer:
        raise ReviewExpiredError(
            f"Nobody answered {question!r} within {deadline}: give `review` an answer for that "
            "case (`otherwise`), or catch this error"
        )
    return form.model_validate(answer)


class Review(BaseModel):
    """A question to a person."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    run_id: UUID
    workflow: str
    question: str
    form: dict[str, Any]
    """JSON Schema of the answer."""
    data: dict[str, Any]
    assignee: str | None
    state: Literal["open", "answered", "withdrawn"]
    answer: dict[str, Any] | None
    answered_by: str | None
    created_at: datetime
    answered_at: datetime | None
    due_at: datetime | None
    """When `otherwise`, or nothing, counts as the answer; None: never."""


class ReviewStore:
    """The reviews of one tenant."""

    def __init__(self, pool: Pool, *, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant
        self._sql = load_queries("rotina.runs")

    async def list_open(
        self, *, assignee: str | None = None, run_id: UUID | None = None, limit: int = 50
    ) -> list[Review]:
        """What waits for an answer, oldest first."""
        values = {"assignee": assignee, "run_id": run_id, "limit": max(1, min(limit, MAX_LIST))}
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql["list_reviews"], values)
            return [Review.model_validate(row) for row in await cursor.fetchall()]

    async def get(self, review_id: UUID) -> Review:
        """One review, or `ReviewNotFoundError`."""
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql["get_review"], {"id": review_id})
            row = await cursor.fetchone()
        if row is None:
            raise ReviewNotFoundError(
                f"There is no review {review_id}; `rotina reviews` lists the open ones."
            )
        return Review.model_validate(row)

    async def find(self, prefix: str) -> Review:
        """The review whose id begins with `prefix`; `ReviewNotFoundError` for none or several."""
        plain = prefix.lower().replace("%", "").replace("_", "").strip()
        async with tenant_scope(self._pool, self._tenant) as connection:
            cursor = await connection.execute(self._sql["find_reviews"], {"prefix": plain})
            rows = await cursor.fetchall()
        if len(rows) != 1:
            count = "more than one review" if rows else "no review"
            raise ReviewNotFoundError(
                f"There is {count} whose id begins with {prefix!r}; "
                "`rotina reviews` lists the open ones."
            )
        return Review.model_validate(rows[0])

    async def answer(self, review_id: UUID, value: Mapping[str, Any], *, by: str) -> Queue | None:
        """Answer a review; answer, timeline and the run's return to the queue commit together.

        Returns the queue of the run, None while it waits for other answers. Raises
        `ReviewNotFoundError`, `InvalidInputError` when the answer does not fit the form, and
        `ReviewAnsweredError` when somebody else was first.
        """
        asked = await self.get(review_id)
        _check(asked, value)
        values = {"id": review_id, "answer": Jsonb(dict(value)), "by": by, "run_id": asked.run_id}
        async with tenant_scope(self._pool, self._tenant) as connection:
            await connection.execute(self._sql["lock_run"], values)
            won = await connection.execute(self._sql["answer_review"], values)
            if await won.fetchone() is not None:
                event = {"review": str(review_id), "by": by}
                await connection.execute(
                    self._sql["insert_event"],
                    {"run_id": asked.run_id, "kind": "answered", "data": Jsonb(event)},
                )
                woken = await connection.execute(self._sql["wake_run"], values)
                row = await woken.fetchone()
                queue: Queue | None = None if row is None else row["queue"]
                return queue
        first = await self.get(review_id)
        if first.state == "withdrawn":
            raise ReviewAnsweredError(f"Review {review_id} was withdrawn: its run is cancelled")
        raise ReviewAnsweredError(
            f"Review {review_id} was answered by {first.answered_by!r} at "
            f"{first.answered_at:%Y-%m-%d %H:%M:%S %Z}: nothing was changed"
        )


def _check(asked: Review, value: Mapping[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(asked.form)
    problems = "; ".join(
        f"{'.'.join(str(part) for part in error.path) or 'answer'}: {error.message}"
        for error in validator.iter_errors(dict(value))
    )
    if problems:
        raise InvalidInputError(f"The answer does not fit the review's form: {problems}")


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as JSON; dates, decimals and the like as their text."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(data), default=str))
    return plain
