"""A run that does everything is killed at each boundary between two writes, one after the other."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from aiohttp import web

from rotina.database import open_pool
from rotina.gateway import Gateway, PostgresLedger
from rotina.runs import WorkerLease
from tests.acceptance.ledger import rows
from tests.chaos.journey import LEASE_SECONDS, Traveller, expected, make_driver, make_settings
from tests.conftest import PROJECT
from tests.scripted_model import ScriptedModel

SLICE = 59
"""Every so manieth boundary in the short slice."""


@dataclass
class Receiver:
    """A bank that knows its keys, and a letter box that does not."""

    url: str = ""
    paid: Counter[str] = field(default_factory=Counter)
    """Keys by trip."""
    letters: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    async def pay(self, request: web.Request) -> web.Response:
        key, trip = request.headers["Idempotency-Key"], (await request.json())["trip"]
        if key not in self.keys:
            self.keys.add(key)
            self.paid[trip] += 1
        return web.json_response({})

    async def letter(self, request: web.Request) -> web.Response:
        self.letters[(await request.json())["trip"]] += 1
        return web.json_response({})


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/pay", receiver.pay)
    app.router.add_post("/letter", receiver.letter)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class World:
    """What the journeys go through."""

    database: str
    receiver: Receiver
    model: ScriptedModel
    calls: int = 0

    async def die(self, key: str, boundary: str | None) -> tuple[int, list[str]]:
        """A process that travels until it dies; its status, and the boundaries it came to."""
        fatal = [] if boundary is None else [boundary]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.journey"),
            *(self.database, self.receiver.url, self.model.base_url, key, *fatal),
            cwd=PROJECT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, error = await process.communicate()
        assert process.returncode in {0, -9}, error.decode()
        return process.returncode or 0, out.decode().splitlines()

    async def heal(self, key: str) -> None:
        """The client asks again, and another worker goes on."""
        with psycopg.connect(self.database) as connection:
            connection.execute("delete from rotina.worker")
            connection.execute("update rotina.run set available_at = now()")
        settings = make_settings(self.model.base_url)
        async with (
            open_pool(self.database) as pool,
            Gateway(settings, PostgresLedger(pool)) as gateway,
            WorkerLease(pool, LEASE_SECONDS).held() as lease,
        ):
            driver = make_driver(pool, lease, gateway, settings)
            traveller = Traveller(pool, driver, self.receiver.url, key)
            await traveller.accept()
            async with asyncio.timeout(60):
                await traveller.travel(lambda: self.receiver.letters[key])

    def check(self, key: str, boundary: str | None) -> None:
        """One run, the right result, each effect once; a model call twice at most."""
        where = f"killed {boundary}"
        (run,) = rows(self.database, "select * from rotina.run where workflow = 'journey'")
        assert run["state"] == "succeeded", (where, run["error"])
        assert run["result"] == {"told": expected(key)}, where
        legs = rows(self.database, "select state from rotina.run where workflow = 'leg'")
        assert [leg["state"] for leg in legs] == ["succeeded"] * 4, where
        ends = "select run_id from rotina.run_event where kind in ('succeeded', 'failed')"
        assert len(rows(self.database, ends)) == 5, where
        assert len(rows(self.database, "select from seat")) == 1, where
        assert self.receiver.paid[key] == 1, where
        assert self.receiver.letters[key] == 1, where
        asked = len(self.model.requests)
        self.model.requests.clear()
        assert 1 <= asked <= 2, where
        self.calls += asked

    def forget(self) -> None:
        """The next journey begins with an empty ledger."""
        with psycopg.connect(self.database) as connection:
            connection.execute("truncate rotina.run, rotina.signal, seat cascade")


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table seat (trip text not null)")
    async with open_receiver() as receiver, ScriptedModel() as model:
        model.script = lambda request: f"You said: {request.last_message}"
        yield World(database_url, receiver, model)


async def kill_at_each(world: World, every: int) -> None:
    status, boundaries = await world.die("whole", None)
    assert status == 0
    world.check("whole", None)
    assert len(boundaries) > 100, "the journey is as long as it was"
    killed = boundaries[::every]
    world.calls = 0
    for number, boundary in enumerate(killed):
        world.forget()
        key = f"trip {number}"
        status, _ = await world.die(key, boundary)
        assert status == -9, f"no boundary {boundary!r} this time"
        try:
            await world.heal(key)
        except TimeoutError:
            states = rows(world.database, "select workflow, state, error from rotina.run")
            raise AssertionError(f"killed {boundary}, and nothing goes on: {states}") from None
        world.check(key, boundary)
    print(
        f"{len(killed)} of {len(boundaries)} boundaries: 0 lost, 0 doubled, "
        f"{world.calls - len(killed)} of {len(killed)} model calls made again"
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_a_run_survives_a_kill_at_every_boundary(world: World) -> None:
    await kill_at_each(world, 1)


async def test_a_run_survives_a_kill_at_some_boundaries(world: World) -> None:
    await kill_at_each(world, SLICE)
