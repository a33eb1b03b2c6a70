"""Limits, circuits and load that the gateways of several processes share through Redis."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest
from aiohttp import web
from pydantic import SecretStr
from redis.asyncio import Redis

from rotina.errors import ModelError, ModelRateLimitedError
from rotina.gateway import Gateway, MemoryLedger, RetryPolicy, Shared, lane
from rotina.gateway.load import Load, read_load
from rotina.settings import Deployment, Route, Settings
from tests.scripted_model import (
    Request,
    ScriptedModel,
    chat,
    delayed,
    status,
    unused_port,
)

ASK: Any = [{"role": "user", "content": "How much is it?"}]
FAST = RetryPolicy(attempts=2, base=0.001, cap=0.002)


def settings_for(
    model: ScriptedModel, *others: ScriptedModel, route: Any = None, **deployment: Any
) -> Settings:
    """One deployment with these fields, and others without limits."""
    made = {"a": Deployment(model="tiny", base_url=SecretStr(model.base_url), **deployment)}
    for name, other in zip("bcd", others, strict=False):
        made[name] = Deployment(model="tiny", base_url=SecretStr(other.base_url))
    return Settings(deployments=made, routes={"smart": Route(deployments=[*made], **(route or {}))})


@contextlib.asynccontextmanager
async def processes(
    number: int,
    settings: Settings,
    url: str | None,
    without: Literal["share", "closed"] = "share",
    ledger: MemoryLedger | None = None,
) -> AsyncIterator[list[Gateway]]:
    """As many gateways, each with its own view of Redis, as processes have."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Gateway(
                    settings,
                    ledger,
                    retry=FAST,
                    shared=(url and Shared(url, without=without)) or None,
                )
            )
            for _ in range(number)
        ]


async def ask(gateway: Gateway, **options: Any) -> str:
    try:
        return (await gateway.chat(ASK, **options)).deployment
    except ModelError as error:
        return type(error).__name__


@pytest.mark.parametrize("number", [1, 3])
async def test_requests_a_minute_are_those_of_all_processes(redis_url: str, number: int) -> None:
    async with (
        ScriptedModel("I know.") as model,
        processes(number, settings_for(model, rpm=600), redis_url) as gateways,
    ):
        began = time.monotonic()
        calls = (ask(gateway, timeout=4) for gateway in gateways for _ in range(150 // number))
        found = await asyncio.gather(*calls)
        seconds = time.monotonic() - began
        assert set(found) == {"a", "ModelTimeoutError"}
        # A tenth at once, and the rest of the minute's evenly.
        assert 60 <= len(model.requests) <= 60 + 9 * seconds + 1


async def test_tokens_a_minute_follow_what_calls_really_used(redis_url: str) -> None:
    async with (
        ScriptedModel(chat("x", usage={"prompt_tokens": 90, "completion_tokens": 10})) as model,
        processes(2, settings_for(model, tpm=10_000), redis_url) as gateways,
    ):
        # Each asks for some 280 at first and gives back 180: a tenth of a minute is ten calls. Had
        # they given back nothing, eight would take as long as 1,200 tokens need to come.
        began = time.monotonic()
        assert [await ask(gateways[0]) for _ in range(8)] == ["a"] * 8
        seconds = time.monotonic() - began
        assert seconds < 1200 / 150
        found = [await ask(gateways[1], timeout=0.3) for _ in range(12)]
        seconds = time.monotonic() - began
        assert found.count("a") <= 2 + 1.5 * seconds + 1
        assert "ModelTimeoutError" in found


async def test_a_prompt_larger_than_the_bucket_goes_when_it_is_full(redis_url: str) -> None:
    async with (
        ScriptedModel("I know.") as model,
        processes(1, settings_for(model, tpm=1000), redis_url) as [gateway],
    ):
        assert await ask(gateway, max_tokens=5000, timeout=60) == "a"


@pytest.mark.parametrize("shared", [True, False])
async def test_calls_at_once_are_those_of_all_processes(redis_url: str, *, shared: bool) -> None:
    at_once = most = 0

    async def slowly(request: Request) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return "I know."

    number, url = (3, redis_url) if shared else (1, None)
    async with (
        ScriptedModel(slowly) as model,
        processes(number, settings_for(model, parallel=4), url) as gateways,
    ):
        found = await asyncio.gather(*(ask(gateways[i % number]) for i in range(60)))
    assert set(found) == {"a"}
    assert 1 < most <= 4


async def test_the_slots_of_a_process_that_died_are_free_again(redis_url: str) -> None:
    async with (
        ScriptedModel("I know.") as model,
        Redis.from_url(redis_url) as redis,
        processes(1, settings_for(model, parallel=2), redis_url) as [gateway],
    ):
        await redis.hset("rotina:slots:a", "dead", "2")
        await redis.zadd("rotina:processes", {"dead": (time.time() + 5) * 1000})
        assert await ask(gateway, timeout=0.3) == "ModelTimeoutError"
        await redis.zadd("rotina:processes", {"dead": (time.time() - 1) * 1000})
        assert await ask(gateway, timeout=60) == "a"
        assert await redis.hexists("rotina:slots:a", "dead") is False


async def test_slots_are_given_back_when_the_gateway_closes(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        async with (
            ScriptedModel("I know.") as model,
            processes(1, settings_for(model, parallel=2), redis_url) as [gateway],
        ):
            assert await ask(gateway) == "a"
        assert await redis.hlen("rotina:slots:a") == 0


async def test_who_has_a_substitute_does_not_wait_at_a_limit(redis_url: str) -> None:
    ledger = MemoryLedger()
    async with (
        ScriptedModel("I know.") as model,
        ScriptedModel("I know.") as other,
        processes(1, settings_for(model, other, rpm=20), redis_url, ledger=ledger) as [gateway],
    ):
        found = [await ask(gateway) for _ in range(6)]
    assert found == ["a", "a", "b", "b", "b", "b"], "two are a tenth of 20"
    refused = [call for call in ledger.calls if call.outcome == "ModelRateLimitedError"]
    assert [call.attempts for call in refused] == [0], "from then on the other one is asked first"


async def test_a_try_again_counts_as_a_request(redis_url: str) -> None:
    async with (
        ScriptedModel([status(500), chat("I know.")]) as model,
        processes(1, settings_for(model, rpm=20), redis_url) as [gateway],
    ):
        assert await ask(gateway) == "a"
        assert await ask(gateway, timeout=0.3) == "ModelTimeoutError"
        assert len(model.requests) == 2


async def test_tenants_take_turns_for_slots() -> None:
    order: list[str] = []

    async def note(request: Request) -> str:
        order.append(request.last_message)
        return "I know."

    async with (
        ScriptedModel(note) as model,
        processes(1, settings_for(model, concurrency=1), None) as [gateway],
    ):

        async def say(tenant: str) -> None:
            bound = gateway.bound(run_id=None, tenant=tenant)
            await bound.chat([{"role": "user", "content": tenant}])

        greedy = [asyncio.create_task(say("greedy")) for _ in range(10)]
        await asyncio.sleep(0)
        modest = [asyncio.create_task(say("modest")) for _ in range(2)]
        await asyncio.gather(*greedy, *modest)
    assert order.index("modest") <= 2
    assert sorted(i for i, name in enumerate(order) if name == "modest")[1] <= 4


async def test_who_gives_up_waiting_leaves_its_slot_to_others() -> None:
    async with (
        ScriptedModel(delayed(0.1, "I know.")) as model,
        processes(1, settings_for(model, concurrency=1), None) as [gateway],
    ):
        first = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(ask(gateway))
        third = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.01)
        second.cancel()
        assert [await first, await third] == ["a", "a"]
        assert await ask(gateway) == "a"


async def test_without_redis_each_process_keeps_to_its_part_or_asks_nobody() -> None:
    nowhere = f"redis://127.0.0.1:{unused_port()}/0"
    async with ScriptedModel("I know.") as model, ScriptedModel("I know.") as other:
        settings = settings_for(model, rpm=20, parallel=4)
        async with processes(1, settings, nowhere) as [gateway]:
            found = [await ask(gateway, timeout=seconds) for seconds in (60, 60, 0.3)]
            assert found == ["a", "a", "ModelTimeoutError"]
        async with processes(1, settings, nowhere, "closed") as [gateway]:
            with pytest.raises(ModelRateLimitedError, match="Redis, which counts for all"):
                await gateway.chat(ASK)
        async with processes(1, settings_for(model, other, rpm=20), nowhere, "closed") as [gateway]:
            assert await ask(gateway) == "b"
    assert len(model.requests) == 2


async def test_a_redis_that_hangs_holds_nobody_up_for_long(redis_url: str) -> None:
    async with (
        ScriptedModel("I know.") as model,
        Redis.from_url(redis_url) as redis,
        processes(1, settings_for(model, rpm=600_000), redis_url) as [gateway],
    ):
        assert await ask(gateway) == "a"
        await redis.client_pause(1500, all=True)
        assert await ask(gateway, timeout=30) == "a"
        await redis.ping()
        assert await ask(gateway) == "a"


async def test_a_circuit_that_one_process_opens_is_open_in_all(redis_url: str) -> None:
    async with (
        ScriptedModel("I know.") as model,
        ScriptedModel("I know.") as other,
        processes(2, settings_for(model, other), redis_url) as [one, two],
    ):
        assert [await ask(gateway) for gateway in (one, two)] == ["a", "a"]
        model.script = status(401)
        assert await ask(one) == "b"
        asked = len(model.requests)
        await until(two, cooling=True)
        assert await ask(two) == "b"
        assert len(model.requests) == asked, "it has not met the failure itself"
        other.script, model.script = status(401), "I am back."
        assert await ask(one) == "a", "nothing else is left"
        await until(two, cooling=False)


async def until(gateway: Gateway, *, cooling: bool) -> None:
    """Wait until this process has heard of the circuit of `a`."""
    health = gateway._lanes.get("smart", "a").health
    async with asyncio.timeout(60):
        while health.cooling is not cooling:
            await asyncio.sleep(0.02)


PAGES = {
    "vllm": (
        (
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            "# TYPE vllm:num_requests_running gauge\n"
            'vllm:num_requests_running{engine="0",model_name="qwen"} 3.0\n'
            'vllm:num_requests_waiting{engine="0",model_name="qwen"} 7.0\n'
            'vllm:kv_cache_usage_perc{engine="0",model_name="qwen"} 0.25\n'
        ),
        Load(7, 3, 0.25),
    ),
    "sglang": (
        (
            '# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs{model_name="a b"} 2.0\n'
            'sglang:num_queue_reqs{model_name="a b"} 1.0\n'
            'sglang:token_usage{model_name="a b"} 0.5\n'
        ),
        Load(1, 2, 0.5),
    ),
    "llama.cpp": (
        (
            "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n"
            "# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 4\n"
        ),
        Load(4, 1, 0),
    ),
    "another": ("# TYPE python_info gauge\npython_info 1.0\n", None),
}


@pytest.mark.parametrize("server", PAGES)
def test_what_servers_say_of_their_load(server: str) -> None:
    page, load = PAGES[server]
    assert read_load(page) == load
    if load is not None:
        assert Load.parse(load.dump()) == load


class Metrics:
    """A server's page of metrics."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.asked = 0

    @contextlib.asynccontextmanager
    async def url(self, port: int = 0) -> AsyncIterator[str]:
        async def page(request: web.Request) -> web.Response:
            self.asked += 1
            return web.Response(text=f"vllm:num_requests_waiting {self.waiting}\n")

        app = web.Application()
        app.router.add_get("/metrics", page)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        assert runner.addresses
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
        await runner.cleanup()


@pytest.mark.parametrize("shared", [True, False])
async def test_the_server_with_the_shorter_queue_is_asked(redis_url: str, *, shared: bool) -> None:
    busy, idle = Metrics(9), Metrics(0)
    async with (
        ScriptedModel("I know.") as a,
        ScriptedModel("I know.") as b,
        busy.url() as first,
        idle.url() as second,
    ):
        settings = Settings(
            deployments={
                name: Deployment(
                    model="tiny", base_url=SecretStr(model.base_url), load_url=SecretStr(url)
                )
                for name, model, url in (("a", a, first), ("b", b, second))
            },
            routes={"smart": Route(deployments=["a", "b"], strategy="least_loaded")},
        )
        async with processes(3, settings, redis_url if shared else None) as gateways:
            for gateway in gateways:
                await ask(gateway)
            async with asyncio.timeout(10):
                while {await ask(gateway) for gateway in gateways} != {"b"}:
                    await asyncio.sleep(0.1)
            busy.waiting, idle.waiting = 0, 9
            async with asyncio.timeout(10):
                while {await ask(gateway) for gateway in gateways} != {"a"}:
                    await asyncio.sleep(0.1)


async def test_a_server_that_is_down_is_found_before_a_call_meets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "EVERY", 0.05)
    page = Metrics(0)
    async with ScriptedModel("I know.") as model, ScriptedModel("I know.") as other:
        port = unused_port()
        url = SecretStr(f"http://127.0.0.1:{port}/metrics")
        async with processes(1, settings_for(model, other, load_url=url), None) as [gateway]:
            assert await ask(gateway) == "a"
            await until(gateway, cooling=True)
            assert await ask(gateway) == "b"
            assert len(model.requests) == 1
            async with page.url(port):
                await until(gateway, cooling=False)
                assert await ask(gateway) == "a"


async def test_a_server_that_tells_no_load_is_asked_all_the_same() -> None:
    async with ScriptedModel("I know.") as model:
        settings = settings_for(model, load_url=SecretStr(f"{model.base_url}/nothing"))
        async with processes(1, settings, None) as [gateway]:
            assert await ask(gateway) == "a"
            await asyncio.sleep(0.05)
            assert await ask(gateway) == "a"
