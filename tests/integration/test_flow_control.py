"""Whose run is next: turns between tenants, priorities, limits, rates and debounce."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import pytest
from pydantic import BaseModel

from rotina.database import Pool
from rotina.errors import IdempotencyConflictError, InvalidInputError, SettingsError
from rotina.runs import Claim, Control, FlowControl, RunStore, WorkerLease, Workflow, sweep
from rotina.runs.flow import LONGEST_KEY


class Job(BaseModel):
    """Input and output."""

    customer: str = ""
    text: str = ""


def never() -> None:
    raise AssertionError("no test here drives a graph")


WORK = Workflow("work", Job, Job, never)  # type: ignore[arg-type]


def limited(**limits: object) -> Workflow:
    return replace(WORK, flow=FlowControl(**limits))  # type: ignore[arg-type]


@dataclass
class Stage:
    """A worker that claims and ends runs without driving them."""

    pool: Pool
    lease: WorkerLease
    stack: AsyncExitStack

    def store(self, tenant: str = "acme") -> RunStore:
        return RunStore(self.pool, tenant=tenant)

    async def accept(
        self, workflow: Workflow = WORK, text: str = "", customer: str = "", tenant: str = "acme"
    ) -> UUID:
        value = {"customer": customer, "text": text}
        return (await self.store(tenant).accept(workflow, value)).id

    async def claim(self, ceilings: dict[str, int] | None = None) -> Claim | None:
        """The next run; it stays under way until `end`, or the test is over."""
        return await self.stack.enter_async_context(self.lease.claimed("io", None, ceilings))

    async def texts(self, ceilings: dict[str, int] | None = None) -> list[str]:
        """The texts of all that may be claimed now, in that order."""
        found = []
        while (claim := await self.claim(ceilings)) is not None:
            found.append(claim.run.input["text"])
        return found

    async def end(self, *claims: Claim | None) -> None:
        async with self.pool.connection() as connection:
            for claim in claims:
                assert claim is not None
                await connection.execute(
                    "update rotina.run set state = 'succeeded', finished_at = now(), "
                    "worker_id = null, lease_token = null where id = %s",
                    [claim.run.id],
                )

    async def execute(self, sql: str) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(sql.encode())


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with WorkerLease(pool, 60).held() as lease, AsyncExitStack() as stack:
        yield Stage(pool, lease, stack)


async def test_tenants_take_turns_however_much_one_has_queued(stage: Stage) -> None:
    for number in range(6):
        await stage.accept(text=f"a{number}", tenant="acme")
    for number in range(2):
        await stage.accept(text=f"b{number}", tenant="bolt")
    assert await stage.texts() == ["a0", "b0", "a1", "b1", "a2", "a3", "a4", "a5"]


async def test_a_tenant_that_comes_late_waits_for_one_slot_at_most(stage: Stage) -> None:
    for number in range(5):
        await stage.accept(text=f"a{number}")
    await stage.accept(text="b0", tenant="bolt")
    assert {(await _text(stage)), (await _text(stage))} == {"a0", "b0"}
    await stage.accept(text="b1", tenant="bolt")
    await stage.accept(text="c0", tenant="coil")
    third, fourth = await _text(stage), await _text(stage)
    assert third == "c0", "who was never served is first"
    assert fourth in {"a1", "b1"}


async def _text(stage: Stage) -> str:
    claim = await stage.claim()
    assert claim is not None
    return str(claim.run.input["text"])


async def test_a_higher_priority_goes_first_within_its_tenant_only(stage: Stage) -> None:
    store = stage.store()
    await store.accept(WORK, {"text": "low"}, priority=-1)
    await store.accept(WORK, {"text": "usual"})
    high = await store.accept(replace(WORK, priority=100), {"text": "high"})
    assert (await store.get(high.id)).priority == 100
    await stage.store("bolt").accept(WORK, {"text": "other"}, priority=-100)
    order = await stage.texts()
    assert [text for text in order if text != "other"] == ["high", "usual", "low"]
    assert order.index("other") <= 1
    with pytest.raises(InvalidInputError, match="101 is out of range: give -100 to 100"):
        await store.accept(WORK, {}, priority=101)


async def test_no_more_runs_of_a_key_than_its_limit(stage: Stage) -> None:
    one_each = limited(key="customer", running=1)
    for customer in "xy":
        for number in range(3):
            await stage.accept(one_each, f"{customer}{number}", customer)
    first, second = await stage.claim(), await stage.claim()
    assert [first and first.run.input["text"], second and second.run.input["text"]] == ["x0", "y0"]
    assert await stage.claim() is None
    assert [run.parked for run in await stage.store().list_runs(state="queued")] == [True] * 4
    await stage.end(second)
    assert await stage.texts() == ["y1"], "only the key that has room"
    late = await stage.accept(one_each, "x3", "x")
    assert (await stage.store().get(late)).parked, "it waits behind those of its key"
    await stage.end(first)
    assert await stage.texts() == ["x1"]


async def test_claims_at_once_do_not_exceed_a_limit(stage: Stage) -> None:
    three = limited(running=3)
    for number in range(20):
        await stage.accept(three, str(number))
    claims = [each for each in await asyncio.gather(*(stage.claim() for _ in range(12))) if each]
    assert len(claims) == 3
    done = 0
    while claims:
        await asyncio.gather(*(stage.end(each) for each in claims))
        done += len(claims)
        more = await asyncio.gather(*(stage.claim() for _ in range(6)))
        claims = [each for each in more if each]
        assert len(claims) <= 3
    assert done == 20, "the end of each made room for the next"


async def test_a_tenant_has_no_more_under_way_than_its_ceiling(stage: Stage) -> None:
    for tenant in ("acme", "bolt", "coil"):
        for number in range(3):
            await stage.accept(text=f"{tenant}{number}", tenant=tenant)
    ceilings = {"*": 1, "bolt": 2}
    claims = await asyncio.gather(*(stage.claim(ceilings) for _ in range(8)))
    under_way = sorted(str(each.run.input["text"])[:4] for each in claims if each)
    assert under_way == ["acme", "bolt", "bolt", "coil"]


async def test_no_more_starts_in_a_period_than_its_rate(stage: Stage) -> None:
    rate = limited(starts=2, per=timedelta(minutes=1))
    for number in range(5):
        await stage.accept(rate, str(number))
    assert await stage.texts() == ["0", "1"]
    later = await stage.accept(rate, "5")
    assert await stage.claim() is None
    assert (await stage.store().get(later)).parked
    assert (await sweep(stage.pool, patience=0)).due == {}, "nothing is due"
    # The period is over.
    await stage.execute("update rotina.run set started_at = started_at - interval '61 seconds'")
    await stage.execute(
        "update rotina.run set available_at = available_at - interval '61 seconds' "
        "where state = 'queued'"
    )
    assert (await sweep(stage.pool)).due == {"io": 1}
    assert await stage.texts() == ["2", "3"]


async def test_a_run_that_goes_on_is_no_new_start(stage: Stage) -> None:
    rate = limited(starts=1, per=timedelta(minutes=1))
    await stage.accept(rate, "0")
    claim = await stage.claim()
    assert claim is not None
    await stage.execute(
        "update rotina.run set state = 'queued', worker_id = null, lease_token = null"
    )
    assert await stage.texts() == ["0"]


async def test_room_that_nobody_noticed_is_found_by_the_sweeper(stage: Stage) -> None:
    one = limited(running=1)
    for number in range(3):
        await stage.accept(one, str(number))
    first = await stage.claim()
    assert await stage.claim() is None
    await stage.end(first)
    [forward] = [run for run in await stage.store().list_runs(state="queued") if not run.parked]
    await Control(stage.pool, tenant="acme").cancel(forward.id, by="ana")
    assert await stage.claim() is None, "the last one waits for the one that was cancelled"
    await sweep(stage.pool, patience=0)
    assert await stage.texts() == ["2"]


async def test_debounce_makes_one_run_of_starts_in_a_row(stage: Stage) -> None:
    quiet = limited(key="customer", debounce=timedelta(seconds=30))
    store = stage.store()
    first = await store.accept(quiet, {"customer": "x", "text": "1"}, key="k1")
    again = await store.accept(quiet, {"customer": "x", "text": "2"}, key="k2")
    other = await store.accept(quiet, {"customer": "y", "text": "3"})
    assert (first.created, first.due, first.news) == (True, False, False)
    assert (again.id, again.created, again.news) == (first.id, False, False)
    assert other.id != first.id
    assert await stage.claim() is None, "not before it is quiet"
    assert [event.kind for event in await store.events(first.id)] == ["accepted", "debounced"]
    known = await store.accept(quiet, {"customer": "x", "text": "2"}, key="k2")
    assert known.id == first.id, "a start that was sent twice is the same"
    with pytest.raises(IdempotencyConflictError):
        await store.accept(quiet, {"customer": "x", "text": "9"}, key="k2")
    await stage.execute("update rotina.run set available_at = now()")
    assert (await sweep(stage.pool)).due == {"io": 2}, "the sweeper tells the queue"
    assert sorted(await stage.texts()) == ["2", "3"], "the last input counts"
    anew = await store.accept(quiet, {"customer": "x", "text": "4"})
    assert anew.id != first.id, "it has begun"
    assert (await store.accept(quiet, {"customer": "x", "text": "2"}, key="k2")).id == first.id


async def test_debounce_puts_a_run_off_no_longer_than_it_may(stage: Stage) -> None:
    brief = limited(debounce=timedelta(minutes=5), debounce_at_most=timedelta(minutes=6))
    store = stage.store()
    first = await store.accept(brief, {"text": "1"})
    await stage.execute("update rotina.run set created_at = created_at - interval '10 minutes'")
    assert (await store.accept(brief, {"text": "2"})).id == first.id
    assert await stage.texts() == ["2"]


async def test_a_long_key_is_a_key(stage: Stage) -> None:
    one = limited(key="customer", running=1)
    name = "n" * (2 * LONGEST_KEY)
    for number in range(2):
        await stage.accept(one, str(number), name)
    await stage.accept(one, "other", name + "x")
    assert await stage.texts() == ["0", "other"]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({}, "limits nothing"),
        ({"running": 0}, "running=0"),
        ({"starts": 3}, "starts and no per"),
        ({"running": 1, "per": timedelta(seconds=1)}, "per and no starts"),
        ({"debounce": timedelta(0)}, "above zero"),
        ({"running": 1, "debounce_at_most": timedelta(1)}, "debounce_at_most and no debounce"),
        ({"running": 1, "key": "costumer"}, "name one of customer, text"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        limited(**limits)


async def test_a_run_that_may_have_killed_its_worker_is_driven_alone_in_the_end(
    stage: Stage,
) -> None:
    """Five attempts: the first two with everybody, then among 16, among 4, alone."""
    for number in range(40):
        await stage.accept(text=str(number))
    sizes = []
    while claims := [each for each in await _claim_many(stage) if each]:
        sizes.append(len(claims))
        # The attempt that a claim is counts already.
        least = min(each.run.max_attempts - each.run.attempts + 1 for each in claims)
        assert len(claims) <= {5: 40, 4: 40, 3: 16, 2: 4, 1: 1}[least]
        await stage.execute(
            "update rotina.run set worker_id = gen_random_uuid() where state = 'running'"
        )
        await sweep(stage.pool)
    assert sizes[:3] == [40, 40, 16]
    assert sizes[-1] == 1
    assert sum(sizes) == 40 * 5


async def _claim_many(stage: Stage) -> list[Claim | None]:
    return await asyncio.gather(*(stage.claim() for _ in range(45)))


async def test_what_has_killed_nobody_is_not_held_up_by_a_suspect(stage: Stage) -> None:
    await stage.accept(text="suspect")
    await stage.execute("update rotina.run set crashes = 4, attempts = 4")
    await stage.accept(text="other suspect")
    await stage.execute("update rotina.run set crashes = 4, attempts = 4")
    for number in range(3):
        await stage.accept(text=str(number))
    assert sorted(await stage.texts()) == ["0", "1", "2", "suspect"]
