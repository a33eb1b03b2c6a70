"""Budgets: what a call may cost at most is held before it is made, and settled after.

A call that could exceed a budget is not made: what is settled and held together never exceeds the
cap, which PostgreSQL checks on the row that every caller in every process updates.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from rotina.errors import BudgetExceededError, BudgetPriceError, DatabaseError
from rotina.settings import Budget, Deployment

if TYPE_CHECKING:
    from rotina.database.pool import Pool

GRACE = 60.0
"""Seconds after a call's deadline until its hold expires."""
POOL_TIMEOUT = 5.0
SHORT = "RB001"

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Need:
    """Tokens that a call may use at most."""

    prompt: int
    completion: int | None
    """None: what the deployment's context has room for."""

    @classmethod
    def of(cls, request: Any, completion: int | None) -> "Need":
        """A token is at least a byte of what is sent, in every vocabulary of bytes; and servers
        add a few around each message."""
        sent = json.dumps(request, default=str, ensure_ascii=False)
        return cls(len(sent.encode(errors="replace")) + 64, completion)

    def tokens(self, deployment: Deployment) -> tuple[int, int]:
        """Of prompt and answer, on this deployment."""
        whole = deployment.context
        answer = whole if self.completion is None else min(self.completion, whole)
        return min(self.prompt, whole), answer

    def usd(self, deployment: Deployment) -> Decimal | None:
        """None: the price is unknown."""
        if deployment.price is None:
            return None
        prompt, answer = self.tokens(deployment)
        dollars = prompt * Decimal(str(deployment.price.input))
        return (dollars + answer * Decimal(str(deployment.price.output))) / _MILLION


class BudgetStore(Protocol):
    """Where budgets are kept."""

    async def reserve(
        self, call: UUID, claims: Sequence[Mapping[str, Any]], seconds: float
    ) -> None:
        """Hold in every claim's budget, or in none. Raises `BudgetExceededError`."""

    async def settle(self, call: UUID, usd: Decimal | None, tokens: int | None) -> None:
        """What the call has cost; None: unknown, which counts as all that was held."""


def claims_of(
    budgets: Mapping[str, Budget],
    need: Need,
    lane: str,
    deployment: Deployment,
    **whose: str | None,
) -> list[dict[str, Any]]:
    """What a call has to hold: one claim for each budget that it is of.

    `whose` has `tenant`, `workflow` and `run`. Raises `BudgetPriceError` where a budget in money
    meets a deployment whose price is unknown.
    """
    found = []
    for name, budget in budgets.items():
        scope = _scope(budget, whose)
        if scope is None:
            continue
        usd = need.usd(deployment)
        if budget.usd is not None and usd is None:
            raise BudgetPriceError(
                f"{lane} has no price, and budget {name!r} is in money: add "
                "price = { input = …, output = … } to the deployment (0 where it costs nothing)"
            )
        found.append(
            {
                "budget": name,
                "scope": scope,
                "period": budget.period,
                "cap_usd": None if budget.usd is None else str(budget.usd),
                "cap_tokens": budget.tokens,
                "usd": str(usd or 0),
                "tokens": sum(need.tokens(deployment)),
            }
        )
    return found


def _scope(budget: Budget, whose: Mapping[str, str | None]) -> str | None:
    """Whose share of the budget a call takes; None when it is not of this budget."""
    parts = []
    for asked, own in ((budget.tenant, whose["tenant"]), (budget.workflow, whose["workflow"])):
        if asked is None:
            continue
        if own is None or asked not in {own, "*"}:
            return None
        parts.append(own)
    if budget.period == "run":
        if whose["run"] is None:
            return None
        parts.append(whose["run"])
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


class PostgresBudgets:
    """The tables `rotina.budget_account` and `rotina.budget_hold`."""

    def __init__(self, pool: "Pool") -> None:
        """`pool` is an open `psycopg_pool.AsyncConnectionPool`; the caller closes it."""
        self._pool = pool

    async def reserve(
        self, call: UUID, claims: Sequence[Mapping[str, Any]], seconds: float
    ) -> None:
        """Hold in every claim's budget, or in none.

        Raises `BudgetExceededError`, and `DatabaseError` when PostgreSQL does not answer: without
        it no call with a budget is made.
        """
        values = {"call": call, "claims": json.dumps(list(claims)), "seconds": seconds}
        await self._execute("reserve", values, claims)

    async def settle(self, call: UUID, usd: Decimal | None, tokens: int | None) -> None:
        """What the call has cost. Raises `DatabaseError`: then the hold expires, as spent."""
        await self._execute("settle", {"call": call, "usd": usd, "tokens": tokens}, ())

    async def _execute(
        self, name: str, values: Mapping[str, Any], claims: Iterable[Mapping[str, Any]]
    ) -> None:
        import psycopg  # noqa: PLC0415 - heavy, and a gateway without a database needs none

        from rotina.database.queries import load_queries  # noqa: PLC0415 - as above

        try:
            async with self._pool.connection(timeout=POOL_TIMEOUT) as connection:
                await connection.execute(load_queries("rotina.gateway")[name], values)
        except psycopg.Error as error:
            if error.sqlstate == SHORT:
                raise _exceeded(json.loads(error.diag.message_detail or "{}"), claims) from None
            raise DatabaseError(
                f"No budget could be looked at ({type(error).__name__}): check DATABASE_URL and "
                "that `rotina migrate` has run"
            ) from error


def _exceeded(told: Mapping[str, Any], claims: Iterable[Mapping[str, Any]]) -> BudgetExceededError:
    claim = next(each for each in claims if each["budget"] == told["budget"])
    parts = []
    if claim["cap_usd"] is not None:
        parts.append(
            f"${told['settled_usd']} spent and ${told['held_usd']} held of ${claim['cap_usd']}, "
            f"the call may cost ${claim['usd']}"
        )
    if claim["cap_tokens"] is not None:
        parts.append(
            f"{told['settled_tokens']} tokens spent and {told['held_tokens']} held of "
            f"{claim['cap_tokens']}, the call may use {claim['tokens']}"
        )
    whose = f" ({claim['scope']})" if claim["scope"] else ""
    return BudgetExceededError(
        f"Budget {told['budget']!r}{whose} has too little left: {'; '.join(parts)}. Give the call "
        "a lower max_tokens, raise the budget, or wait for the next period"
    )
