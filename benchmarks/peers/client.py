"""One client of a model server, measured from the outside; run by `benchmarks.gateway_inprocess`.

    client.py NAME BASE_URL [DATABASE_URL]

Reads a JSON object a line, `{"concurrency": 16, "calls": 400, "stream": false}`, makes the calls,
and prints what they cost: CPU milliseconds a call (user and system, of this process), calls a
second, latency. It knows Rotina and its neighbours, and imports only the one that is asked for.
"""

import asyncio
import contextlib
import json
import os
import resource
import statistics
import sys
import time
from typing import Any

MESSAGES: Any = [{"role": "user", "content": "What is the total of this invoice? " * 8}]


async def aiohttp_client(stack: Any, base_url: str, _: str) -> Any:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def ask(stream: bool) -> Any:
        body = {"model": "mock", "messages": MESSAGES, "temperature": 0.0, "max_tokens": 200}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with session.post(f"{base_url}/chat/completions", json=body) as response:
            if not stream:
                return (await response.json())["choices"][0]["message"]["content"]
            text = ""
            async for line in response.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    text += choices[0]["delta"].get("content", "") if choices else ""
            return text

    return ask


async def openai_client(stack: Any, base_url: str, _: str) -> Any:
    import openai

    client: Any = openai.AsyncOpenAI(base_url=base_url, api_key="none")
    stack.push_async_callback(client.close)

    async def ask(stream: bool) -> Any:
        options = {"stream_options": {"include_usage": True}} if stream else {}
        answer = await client.chat.completions.create(
            model="mock",
            messages=MESSAGES,
            temperature=0.0,
            max_tokens=200,
            stream=stream,
            **options,
        )
        if not stream:
            return answer.choices[0].message.content
        return "".join([c.choices[0].delta.content or "" async for c in answer if c.choices])

    return ask


async def litellm_sdk(stack: Any, base_url: str, _: str, *, router: bool = False) -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True
    known = {"api_base": base_url, "api_key": "none"}
    complete = litellm.acompletion
    model = "openai/mock"
    if router:
        params = {"model": "openai/mock", **known, "rpm": 10**9, "tpm": 10**12}
        chosen = litellm.Router(
            [{"model_name": "smart", "litellm_params": dict(params)} for _ in range(2)]
        )
        complete, model, known = chosen.acompletion, "smart", {}

    async def ask(stream: bool) -> Any:
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        answer = await complete(
            model=model, messages=MESSAGES, temperature=0.0, max_tokens=200, **known, **options
        )
        if not stream:
            return answer.choices[0].message.content
        return "".join([c.choices[0].delta.content or "" async for c in answer if c.choices])

    return ask


async def litellm_router(stack: Any, base_url: str, _: str) -> Any:
    return await litellm_sdk(stack, base_url, _, router=True)


async def chat_openai(stack: Any, base_url: str, _: str) -> Any:
    from langchain_openai import ChatOpenAI

    return _langchain(
        ChatOpenAI(model="mock", base_url=base_url, api_key="none", temperature=0, max_tokens=200)
    )


async def rotina(stack: Any, base_url: str, database_url: str) -> Any:
    gateway = await _gateway(stack, base_url, database_url)

    async def ask(stream: bool) -> Any:
        if not stream:
            return (await gateway.chat(MESSAGES, max_tokens=200)).text
        return "".join([chunk.text async for chunk in gateway.stream(MESSAGES, max_tokens=200)])

    return ask


async def rotina_langchain(stack: Any, base_url: str, database_url: str) -> Any:
    from rotina.gateway.langchain import RotinaChatModel

    gateway = await _gateway(stack, base_url, database_url)
    return _langchain(RotinaChatModel(gateway=gateway, temperature=0, max_tokens=200))


async def _gateway(stack: Any, base_url: str, database_url: str) -> Any:
    """Two deployments, limits, a budget in money and tokens, the ledger in PostgreSQL."""
    from decimal import Decimal

    from pydantic import SecretStr

    from rotina.database import open_pool
    from rotina.gateway import Gateway
    from rotina.settings import Budget, Deployment, Price, Route, Settings

    one = Deployment(
        model="mock",
        base_url=SecretStr(base_url),
        concurrency=256,
        rpm=10**9,
        tpm=10**12,
        price=Price(input=0.15, output=0.6),
    )
    settings = Settings(
        deployments={"one": one, "two": one},
        routes={"smart": Route(deployments=["one", "two"])},
        budgets={"all": Budget(usd=Decimal(10**9), tokens=10**15, period="total")},
    )
    pool = await stack.enter_async_context(open_pool(database_url, size=4))
    return await stack.enter_async_context(Gateway.with_database(settings, pool))


def _langchain(model: Any) -> Any:
    async def ask(stream: bool) -> Any:
        if not stream:
            return (await model.ainvoke(MESSAGES)).content
        return "".join([chunk.content async for chunk in model.astream(MESSAGES)])

    return ask


CLIENTS: dict[str, Any] = {
    "aiohttp": aiohttp_client,
    "openai": openai_client,
    "litellm": litellm_sdk,
    "litellm router": litellm_router,
    "ChatOpenAI": chat_openai,
    "rotina": rotina,
    "rotina langchain": rotina_langchain,
}


async def measure(ask: Any, concurrency: int, calls: int, stream: bool) -> dict[str, float]:
    left, seconds = iter(range(calls)), list[float]()

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            text = await ask(stream)
            seconds.append(time.perf_counter() - began)
            assert text.startswith("The total is 42."), text

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "cpu_ms": cpu / calls * 1000, "per_s": calls / wall, "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


async def main(name: str, base_url: str, database_url: str = "") -> None:
    async with contextlib.AsyncExitStack() as stack:
        ask = await CLIENTS[name](stack, base_url, database_url)
        for stream in (False, True):
            await measure(ask, 16, 64, stream)  # imports, connections, plans
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await measure(ask, **json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
