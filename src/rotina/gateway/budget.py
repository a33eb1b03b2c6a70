"""Budgets: what a call may cost at most is held before it is made, and settled after.

A call that could exceed a budget is not made: what is settled and held together never exceeds the
cap, which PostgreSQL checks on the row that every caller in every process updates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from rotina.errors import BudgetExceededError, BudgetPriceError
from rotina.gateway.encoding import to_json
from rotina.settings import Budget, Deployment

GRACE = 60.0
"""Seconds after a call's deadline until its hold expires."""
REPAIR_BYTES = 16_000
"""At most of what is wrong with an answer, as it is told to the model."""

Claim = Mapping[str, Any]
"""What a call has to hold in one budget, as `claims_of` writes it."""

_BYTES_A_TOKEN = 4
_USUAL_ANSWER = 256
_MILLION = Decimal(1_000_000)
_THOUSANDTH = Decimal("0.001")


@dataclass(frozen=True)
class Need:
    """Tokens that a call may use at most."""

    prompt: int
    completion: int | None
    """None: what the deployment's context has room for."""
    rounds: int = 1
    """How often it may be asked: a repair sends the prompt, the answer and what is wrong."""
    texts: int = 1
    """Of how many texts the prompt is that the model reads apart: each may fill the context."""

    @classmethod
    def of(cls, request: Any, completion: int | None, *, rounds: int = 1, texts: int = 1) -> "Need":
        """A token is at least a byte of what is sent, in every vocabulary of bytes; and servers
        add a few around each message."""
        return cls(len(to_json(request)) + 64, completion, rounds, texts)

    def guess(self, deployment: Deployment) -> int:
        """Tokens that it will probably use: what a limit of tokens a minute is asked for."""
        answer = _USUAL_ANSWER if self.completion is None else self.completion
        return min(self.prompt // _BYTES_A_TOKEN + answer, deployment.context * self.texts)

    def tokens(self, deployment: Deployment) -> tuple[int, int]:
        """Of prompt and answer, on this deployment."""
        whole = deployment.context
        answer = whole if self.completion is None else min(self.completion, whole)
        # The last repair has all earlier answers in its prompt.
        prompts = (self.prompt + at * (answer + REPAIR_BYTES) for at in range(self.rounds))
        return sum(min(prompt, whole * self.texts) for prompt in prompts), answer * self.rounds

    def usd(self, deployment: Deployment) -> Decimal | None:
        """None: the price is unknown."""
        if deployment.price is None:
            return None
        prompt, answer = self.tokens(deployment)
        # Nobody knows what will be read from a cache, or written to it, before the call is made.
        dearest = max(deployment.price.input, deployment.price.cache_write or 0.0)
        dollars = prompt * Decimal(str(dearest))
        return (dollars + answer * Decimal(str(deployment.price.output))) / _MILLION


@dataclass(frozen=True)
class Spent:
    """What a call has cost; None: nobody knows, which counts as all that was held."""

    usd: Decimal | None = None
    tokens: int | None = None
    gpu_seconds: Decimal | None = None


NOTHING = Spent(Decimal(0), 0, Decimal(0))


@dataclass(frozen=True)
class Payer:
    """Whose budgets a call is paid from."""

    tenant: str
    workflow: str | None
    run: str | None
    key: str | None
    """The API key that asked, by its name."""


class BudgetStore(Protocol):
    """Where budgets are kept."""

    async def reserve(
        self, call: UUID, claims: Sequence[Claim], seconds: float, facts: Mapping[str, Any]
    ) -> None:
        """Hold in every claim's budget, or in none, for so many seconds.

        `facts` are the ledger's row of the call, should nobody else write it. Raises
        `BudgetExceededError`.
        """

    def settle(self, call: UUID, spent: Spent) -> None:
        """Book what the call has cost, soon."""

    async def flush(self) -> None:
        """Wait until everything is booked."""


def gpu_seconds(deployment: Deployment, seconds: float) -> Decimal | None:
    """Of a call that takes so long; None where nothing says how much of a GPU it has."""
    if deployment.gpu_share is None:
        return None
    return (Decimal(str(deployment.gpu_share)) * Decimal(str(seconds))).quantize(_THOUSANDTH)


def claims_of(
    budgets: Mapping[str, Budget],
    need: Need,
    lane: str,
    deployment: Deployment,
    payer: Payer,
    seconds: float,
) -> list[Claim]:
    """What a call of at most `seconds` has to hold: one claim for each budget that it is of.

    Raises `BudgetPriceError` where a budget in money meets a deployment whose price is unknown.
    """
    found: list[Claim] = []
    for name, budget in budgets.items():
        scope = _scope(budget, payer)
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
                "cap_gpu_seconds": budget.gpu_seconds,
                "usd": str(usd or 0),
                "tokens": sum(need.tokens(deployment)),
                "gpu_seconds": str(gpu_seconds(deployment, seconds) or 0),
            }
        )
    return found


def _scope(budget: Budget, payer: Payer) -> str | None:
    """Whose share of the budget a call takes; None when it is not of this budget."""
    parts = []
    for asked, own in (
        (budget.tenant, payer.tenant),
        (budget.workflow, payer.workflow),
        (budget.key, payer.key),
    ):
        if asked is None:
            continue
        if own is None or asked not in {own, "*"}:
            return None
        parts.append(own)
    if budget.period == "run":
        if payer.run is None:
            return None
        parts.append(payer.run)
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def exceeded(told: Mapping[str, Any], claims: Sequence[Claim]) -> BudgetExceededError:
    """The error that says which budget refused a call, and by what figures."""
    claim = next(each for each in claims if each["budget"] == told["budget"])
    parts = [
        f"{_amount(unit, told[f'settled_{unit}'])} spent and "
        f"{_amount(unit, told[f'held_{unit}'])} held of {_amount(unit, claim[f'cap_{unit}'])}, "
        f"the call may take {_amount(unit, claim[unit])}"
        for unit in ("usd", "tokens", "gpu_seconds")
        if claim[f"cap_{unit}"] is not None
    ]
    whose = f" ({claim['scope']})" if claim["scope"] else ""
    return BudgetExceededError(
        f"Budget {told['budget']!r}{whose} has too little left: {'; '.join(parts)}. Give the call "
        "a lower max_tokens, raise the budget, or wait for the next period"
    )


def _amount(unit: str, value: Any) -> str:
    return f"${value}" if unit == "usd" else f"{value} {unit.replace('gpu_', 'GPU-')}"
