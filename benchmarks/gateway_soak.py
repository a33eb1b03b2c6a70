"""What the gateway keeps after very many calls: memory, connections, rows, holds.

    python -m benchmarks.gateway_soak [--calls 200000] [--concurrency 64] [--quick]

One gateway in this process, with a route over two deployments, limits, a budget in money and
tokens, and its ledger in PostgreSQL (embedded, started here), asks a model server in C on loopback,
so many calls at once. Of 20 calls nine are whole, six streamed, one streamed and left after its
first piece, one cut off in the middle, and three get a 500, a 429 or a dropped connection from both
deployments. The first tenth is the warm-up.

At the end the ledger must hold the rows that these calls make and no other, no budget may hold
anything, and closing the gateway must leave no file descriptor behind: otherwise the exit status is
1. The last line is one JSON object; `ratio` is the resident memory at the end over that after the
warm-up, the gateway's own earlier self being the peer.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import platform
import sys
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import psutil
from pydantic import SecretStr

from benchmarks.loopback import database, upstream
from rotina.database import Pool, open_pool
from rotina.errors import ModelError
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy
from rotina.settings import Budget, Deployment, Price, Route, Settings

CALLS = 200_000
CONCURRENCY = 64
POOL = 4
GOAL = 1.10
PARTS = 10
"""The first is the warm-up; memory is looked at after each."""
KINDS = (*["whole"] * 9, *["streamed"] * 6, "left", "CUT", "FAIL500", "FAIL429", "DROP")
OUTCOMES = {
    "whole": {"ok": 1},
    "streamed": {"ok": 1},
    "left": {"CancelledError": 1},
    "CUT": {"ModelUnreachableError": 1},
    # A failure before the first piece: the other deployment is asked, and has a row of its own.
    "FAIL500": {"ModelServerError": 2},
    "FAIL429": {"ModelRateLimitedError": 2},
    "DROP": {"ModelUnreachableError": 2},
}
"""The rows that one call of a kind leaves."""
SOON = RetryPolicy(base=0.001, cap=0.002)


def settings_for(port: int) -> Settings:
    """Two deployments, limits, a budget in money and tokens, none of them ever reached."""
    one = Deployment(
        model="mock",
        base_url=SecretStr(f"http://127.0.0.1:{port}/v1"),
        concurrency=256,
        rpm=10**9,
        tpm=10**12,
        price=Price(input=0.15, output=0.6),
    )
    return Settings(
        deployments={"one": one, "two": one},
        routes={"smart": Route(deployments=["one", "two"])},
        budgets={"all": Budget(usd=Decimal(10**9), tokens=10**15, period="total")},
    )


async def ask(gateway: Gateway, kind: str) -> str:
    """One call of this kind; what it ended as: `ok`, `left`, or the name of an error."""
    content = f"{kind}: what is the total of this invoice? " * 8
    messages: Any = [{"role": "user", "content": content}]
    try:
        if kind in {"streamed", "left", "CUT"}:
            stream = gateway.stream(messages, max_tokens=200)
            async with contextlib.aclosing(stream) as chunks:
                async for _ in chunks:
                    if kind == "left":
                        return "left"
        else:
            await gateway.chat(messages, max_tokens=200)
    except ModelError as error:
        return type(error).__name__
    return "ok"


async def make(gateway: Gateway, numbers: range, concurrency: int) -> Counter[tuple[str, str]]:
    """Make these calls, so many at once; how often each kind ended how."""
    left, ends = iter(numbers), Counter[tuple[str, str]]()

    async def caller() -> None:
        for number in left:
            kind = KINDS[number % len(KINDS)]
            ends[kind, await ask(gateway, kind)] += 1

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return ends


def look(port: int) -> dict[str, int]:
    """Resident memory in kB, open file descriptors, and connections to the model server."""
    own = psutil.Process()
    connections = own.net_connections(kind="tcp")
    return {
        "rss_kb": own.memory_info().rss // 1024,
        "fds": own.num_fds(),
        "upstream": sum(1 for each in connections if each.raddr and each.raddr.port == port),
    }


async def booked(pool: Pool) -> dict[str, Any]:
    """What PostgreSQL has of the calls."""
    async with pool.connection() as connection:
        rows = await connection.execute(
            "select outcome, count(*) as number from rotina.model_call group by outcome"
        )
        outcomes = {row["outcome"]: row["number"] for row in await rows.fetchall()}
        accounts = await connection.execute(
            "select (select count(*) from rotina.budget_hold) as holds,"
            " coalesce(sum(held_usd), 0)::float as held_usd,"
            " coalesce(sum(held_tokens), 0)::bigint as held_tokens,"
            " coalesce(sum(settled_tokens), 0)::bigint as settled_tokens"
            " from rotina.budget_account"
        )
        found = await accounts.fetchone()
    assert found is not None
    return {"outcomes": outcomes, **found}


def expected(calls: int) -> Counter[str]:
    """The rows that so many calls leave, by outcome."""
    rows = Counter[str]()
    for number in range(calls):
        rows.update(OUTCOMES[KINDS[number % len(KINDS)]])
    return rows


async def soak(url: str, port: int, calls: int, concurrency: int = CONCURRENCY) -> dict[str, Any]:
    """All calls against the model server at `port`; `url` is that of a migrated database."""
    async with open_pool(url, size=POOL) as pool:
        await pool.resize(POOL, POOL)
        await pool.wait()
        before = look(port)
        ledger = PostgresLedger(pool)
        began, looks, ends = time.perf_counter(), [], Counter[tuple[str, str]]()
        async with Gateway(settings_for(port), ledger, retry=SOON, budgets=ledger) as gateway:
            for part in range(PARTS):
                first, last = calls * part // PARTS, calls * (part + 1) // PARTS
                ends += await make(gateway, range(first, last), concurrency)
                looks.append(look(port))
            slots = sum(state.under_way for state in gateway.deployments())
        seconds = time.perf_counter() - began
        await asyncio.sleep(0.1)  # a transport is closed in the loop's next turn
        after = look(port)
        found = {
            "calls": calls,
            "concurrency": concurrency,
            "per_s": round(calls / seconds),
            "ends": {f"{kind}: {end}": number for (kind, end), number in sorted(ends.items())},
            "rows": sum(expected(calls).values()),
            "before": before,
            "warm": looks[0],
            "end": looks[-1],
            "closed": after,
            "rss_kb": [each["rss_kb"] for each in looks],
            "slots_held": slots,
            "pool_connections": pool.get_stats()["pool_size"],
            "ledger_failures": gateway.ledger_failures,
            **await booked(pool),
        }
    return {**found, "wrong": wrong(found)}


def wrong(found: dict[str, Any]) -> list[str]:
    """What was kept, or is missing."""
    rows, pool = dict(expected(found["calls"])), found["pool_connections"]
    upstreams, fds = found["end"]["upstream"], found["closed"]["fds"] - found["before"]["fds"]
    most = found["concurrency"]
    checks = {
        f"rows {found['outcomes']}, not {rows}": found["outcomes"] == rows,
        f"{found['ledger_failures']} rows not written": found["ledger_failures"] == 0,
        f"{found['holds']} holds left": found["holds"] == 0,
        f"{found['slots_held']} slots held": found["slots_held"] == 0,
        f"{found['held_usd']} USD and {found['held_tokens']} tokens held": (
            found["held_usd"] == 0 and found["held_tokens"] == 0
        ),
        f"{upstreams} connections to the model for {most} calls at once": upstreams <= most,
        f"{found['closed']['upstream']} connections left open": found["closed"]["upstream"] == 0,
        f"{fds} file descriptors left open": fds <= 0,
        f"{pool} connections in a pool of {POOL}": pool <= POOL,
    }
    return [said for said, good in checks.items() if not good]


def report(found: dict[str, Any]) -> None:
    """Lines for people and the JSON line for machines."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{found['calls']} calls, {found['rows']} rows, {found['per_s']} calls a second")
    print("MB after each tenth:", " ".join(f"{kb / 1024:.1f}" for kb in found["rss_kb"]))
    for name in ("before", "warm", "end", "closed"):
        seen = found[name]
        print(f"  {name:<7}{seen['fds']:>4} file descriptors, {seen['upstream']:>3} to the model")
    for said in found["wrong"]:
        print(f"WRONG: {said}")
    line = {
        "name": "gateway_soak",
        "ratio": round(found["end"]["rss_kb"] / found["warm"]["rss_kb"], 3),
        "goal": GOAL,
        "peer": "the same process after its warm-up, resident memory",
        "details": found,
    }
    print(json.dumps(line))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY)
    parser.add_argument("--quick", action="store_true", help="4,000 calls")
    chosen = parser.parse_args()
    # Each failure is told in the log, and there are tens of thousands.
    logging.getLogger("rotina").setLevel(logging.ERROR)
    calls = 4_000 if chosen.quick else chosen.calls
    with upstream() as port, database() as (url, _):
        found = asyncio.run(soak(url, port, calls, chosen.concurrency))
    report(found)
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
