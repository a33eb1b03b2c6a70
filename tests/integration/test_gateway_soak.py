"""The soak of `benchmarks.gateway_soak` with few calls: what it keeps, never how fast it is."""

import logging
import shutil
from typing import Any

import pytest

from benchmarks.gateway_soak import CONCURRENCY, KINDS, POOL, expected, soak, wrong
from benchmarks.loopback import upstream

CALLS = 2_000

BALANCED: dict[str, Any] = {
    "calls": 20,
    "concurrency": CONCURRENCY,
    "slots_held": 0,
    "outcomes": {
        "ok": 15,
        "CancelledError": 1,
        "ModelServerError": 2,
        "ModelRateLimitedError": 2,
        "ModelUnreachableError": 3,
    },
    "ledger_failures": 0,
    "holds": 0,
    "held_usd": 0.0,
    "held_tokens": 0,
    "pool_connections": POOL,
    "before": {"rss_kb": 1, "fds": 9, "upstream": 0},
    "end": {"rss_kb": 1, "fds": 20, "upstream": CONCURRENCY},
    "closed": {"rss_kb": 1, "fds": 9, "upstream": 0},
}


def test_each_kind_of_call_has_its_rows() -> None:
    assert dict(expected(len(KINDS))) == BALANCED["outcomes"]
    assert dict(expected(0)) == {}


def test_nothing_is_wrong_where_all_is_given_back() -> None:
    assert wrong(BALANCED) == []


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"outcomes": {**BALANCED["outcomes"], "ok": 14}}, "rows {"),
        ({"ledger_failures": 1}, "1 rows not written"),
        ({"slots_held": 1}, "1 slots held"),
        ({"holds": 2}, "2 holds left"),
        ({"held_usd": 0.5}, "0.5 USD and 0 tokens held"),
        ({"held_tokens": 7}, "0.0 USD and 7 tokens held"),
        (
            {"end": {"upstream": CONCURRENCY + 1}},
            "65 connections to the model for 64 calls at once",
        ),
        ({"closed": {"fds": 9, "upstream": 1}}, "1 connections left open"),
        ({"closed": {"fds": 10, "upstream": 0}}, "1 file descriptors left open"),
        ({"pool_connections": POOL + 1}, "5 connections in a pool of 4"),
    ],
)
def test_what_is_kept_is_told(kept: dict[str, Any], said: str) -> None:
    found = wrong({**BALANCED, **kept})
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="the model server is in C"
)
async def test_calls_leave_their_rows_and_nothing_else(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "rotina")
    with upstream() as port:
        found = await soak(database_url, port, CALLS)
    assert found["wrong"] == []
    assert found["rows"] == sum(found["outcomes"].values()) > CALLS
    assert set(found["ends"]) == {
        "whole: ok",
        "streamed: ok",
        "left: left",
        "CUT: ModelUnreachableError",
        "FAIL500: ModelServerError",
        "FAIL429: ModelRateLimitedError",
        "DROP: ModelUnreachableError",
    }
