"""Budgets as a state machine: whatever order calls hold, settle and die in, the sums are right."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from rotina.database import load_queries, migrate

CENTS = st.integers(min_value=0, max_value=120)
BUDGETS = st.sets(st.sampled_from(["day", "month", "total"]), min_size=1)


class Budgets(RuleBasedStateMachine):
    """One account a budget; `url` is a migrated database."""

    url = ""
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.connection = psycopg.connect(self.url, autocommit=True, row_factory=dict_row)
        self.connection.execute("delete from rotina.budget_account")
        self.sql = load_queries("rotina.gateway")
        self.cap = 300
        self.held: dict[str, dict[UUID, int]] = {}
        self.settled: dict[str, int] = {}

    def teardown(self) -> None:
        self.connection.close()

    @rule(target=holds, names=BUDGETS, cents=CENTS)
    def reserve(self, names: set[str], cents: int) -> UUID:
        call = uuid4()
        fits = all(self.used(name) + cents <= self.cap for name in names)
        claims = [self.claim(name, cents) for name in names]
        refused = self.book(wanted=[self.wish(call, claims)])
        assert [row["refused"] for row in refused] == ([] if fits else [call])
        if fits:
            for name in names:
                self.held.setdefault(name, {})[call] = cents
        return call

    @rule(target=holds, several=st.lists(st.tuples(BUDGETS, CENTS), min_size=2, max_size=4))
    def reserve_at_once(self, several: list[tuple[set[str], int]]) -> Any:
        """Each call in turn holds all it wants or nothing, in one statement."""
        calls = [uuid4() for _ in several]
        wanted = [
            self.wish(call, [self.claim(name, cents) for name in names])
            for call, (names, cents) in zip(calls, several, strict=True)
        ]
        refused = {row["refused"] for row in self.book(wanted=wanted)}
        for call, (names, cents) in zip(calls, several, strict=True):
            fits = all(self.used(name) + cents <= self.cap for name in names)
            assert (call not in refused) is fits
            if fits:
                for name in names:
                    self.held.setdefault(name, {})[call] = cents
        return multiple(*calls)

    @rule(call=consumes(holds), cents=CENTS)
    def settle(self, call: UUID, cents: int) -> None:
        self.book(
            spent=[{"call": str(call), "usd": cents / 100, "tokens": cents, "gpu_seconds": cents}]
        )
        self.spend(call, cents)

    @rule(call=consumes(holds))
    def settle_without_knowing(self, call: UUID) -> None:
        self.book(spent=[{"call": str(call), "usd": None}])
        self.spend(call, 1000)

    @rule(call=holds)
    def die(self, call: UUID) -> None:
        """Its hold expires at the next reservation, here one of nothing."""
        self.connection.execute(
            "update rotina.budget_hold set expires_at = now() - interval '1 s' where id = %s",
            [call],
        )
        names = [name for name, calls in self.held.items() if call in calls]
        if names:
            nothing = uuid4()
            if all(self.used(name) <= self.cap for name in names):
                self.book(wanted=[self.wish(nothing, [self.claim(name, 0) for name in names])])
                self.book(spent=[{"call": str(nothing), "usd": None}])
                self.spend(call, 1000)
            else:
                self.connection.execute(
                    "update rotina.budget_hold set expires_at = now() + interval '1 hour' "
                    "where id = %s",
                    [call],
                )

    @rule(cents=st.integers(min_value=0, max_value=500))
    def change_the_cap(self, cents: int) -> None:
        self.cap = cents

    @invariant()
    def the_sums_are_right(self) -> None:
        for row in self.connection.execute("select * from rotina.budget_account").fetchall():
            name = row["budget"]
            held = sum(self.held.get(name, {}).values())
            assert row["held_usd"] * 100 == row["held_tokens"] == row["held_gpu_seconds"] == held
            assert row["settled_usd"] * 100 == row["settled_tokens"] == self.settled.get(name, 0)
            assert row["settled_usd"] + row["held_usd"] <= row["cap_usd"]

    def book(self, **entries: list[Any]) -> list[dict[str, Any]]:
        values = {kind: json.dumps(entries.get(kind, [])) for kind in ("spent", "calls", "wanted")}
        return self.connection.execute(self.sql["book"], {**values, "durable": False}).fetchall()

    @staticmethod
    def wish(call: UUID, claims: list[dict[str, Any]]) -> dict[str, Any]:
        return {"call": str(call), "seconds": 3600, "facts": None, "claims": claims}

    def claim(self, name: str, cents: int) -> dict[str, Any]:
        return {
            "budget": name, "scope": "", "period": name, "cap_usd": str(Decimal(self.cap) / 100),
            "cap_tokens": self.cap, "usd": str(Decimal(cents) / 100), "tokens": cents,
            "cap_gpu_seconds": self.cap, "gpu_seconds": cents,
        }  # fmt: skip

    def used(self, name: str) -> int:
        return sum(self.held.get(name, {}).values()) + self.settled.get(name, 0)

    def spend(self, call: UUID, cents: int) -> None:
        for name, calls in self.held.items():
            if call in calls:
                self.settled[name] = self.settled.get(name, 0) + min(cents, calls.pop(call))


def test_budgets_in_any_order(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(migrate(database_url, []))
    monkeypatch.setattr(Budgets, "url", database_url)
    run_state_machine_as_test(
        Budgets,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
