"""What a chat call costs this process: Rotina's gateway, bare aiohttp, the `openai` client.

    python -m benchmarks.gateway_client

A mock server in a process of its own answers at once over loopback with a constant body. Each
client makes the same calls at 1, 16 and 64 concurrent, in rounds that take turns, and each figure
is the median of the rounds. CPU is this process's (user and system). The last line is one JSON
object; `ratio` is the CPU a call at 16 concurrent, the gateway's with its ledger over `openai`'s.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any

from pydantic import SecretStr

from rotina.gateway import Gateway, MemoryLedger
from rotina.settings import Deployment, Price, Route, Settings

CONCURRENCY = (1, 16, 64)
CALLS = 300
ROUNDS = 3
GOAL = 0.5
MESSAGES: Any = [{"role": "user", "content": "What is the total of this invoice? " * 8}]
ANSWER = json.dumps(
    {
        "id": "mock",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The total is 42. " * 8},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100},
    }
).encode()

Ask = Callable[[], Awaitable[object]]


class MockProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1: counts the body's bytes and answers."""

    _head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._buffer += data
        while (split := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:split].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._buffer) < split + 4 + length:
                return
            self._buffer = self._buffer[split + 4 + length :]
            self._transport.write(self._head % len(ANSWER) + ANSWER)


def serve(pipe: Connection) -> None:
    """Run the mock until killed; sends its port first."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(MockProtocol, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def aiohttp_client(stack: AsyncExitStack, base_url: str) -> Ask:
    """Bare aiohttp: JSON out, JSON in."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def ask() -> object:
        body = {"model": "mock", "messages": MESSAGES, "temperature": 0.0}
        async with session.post(f"{base_url}/chat/completions", json=body) as response:
            parsed = await response.json()
            return parsed["choices"][0]["message"]["content"]

    return ask


async def openai_client(stack: AsyncExitStack, base_url: str) -> Ask:
    """The `openai` client, as its documentation shows it."""
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=2)
    stack.push_async_callback(client.close)

    async def ask() -> object:
        return await client.chat.completions.create(
            model="mock", messages=MESSAGES, temperature=0.0
        )

    return ask


async def _gateway(stack: AsyncExitStack, base_url: str, ledger: MemoryLedger | None) -> Ask:
    deployment = Deployment(
        model="mock",
        base_url=SecretStr(base_url),
        concurrency=256,
        price=Price(input=0.15, output=0.6),
    )
    settings = Settings(
        deployments={"mock": deployment}, routes={"smart": Route(deployments=["mock"])}
    )
    gateway = await stack.enter_async_context(Gateway(settings, ledger))

    async def ask() -> object:
        return await gateway.chat(MESSAGES)

    return ask


async def gateway_without_ledger(stack: AsyncExitStack, base_url: str) -> Ask:
    """The gateway: route, slot, deadline, retry policy, checks, cost."""
    return await _gateway(stack, base_url, None)


async def gateway_with_ledger(stack: AsyncExitStack, base_url: str) -> Ask:
    """The same, with a row a call kept in memory."""
    return await _gateway(stack, base_url, MemoryLedger())


CLIENTS = {
    "aiohttp": aiohttp_client,
    "rotina, no ledger": gateway_without_ledger,
    "rotina, ledger": gateway_with_ledger,
    "openai": openai_client,
}


async def measure(ask: Ask, concurrency: int, calls: int) -> tuple[float, float]:
    """CPU milliseconds a call, and calls a second."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await ask()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / calls * 1000, calls / wall


async def compare(base_url: str) -> dict[str, dict[int, tuple[float, float]]]:
    """Median CPU milliseconds and calls a second of each client at each concurrency."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {
        name: {number: [] for number in CONCURRENCY} for name in CLIENTS
    }
    async with AsyncExitStack() as stack:
        asks = {name: await make(stack, base_url) for name, make in CLIENTS.items()}
        for ask in asks.values():
            await measure(ask, max(CONCURRENCY), 2 * max(CONCURRENCY))
        for _ in range(ROUNDS):
            for concurrency in CONCURRENCY:
                for name, ask in asks.items():
                    found[name][concurrency].append(await measure(ask, concurrency, CALLS))
    return {
        name: {number: _median(rounds) for number, rounds in rows.items()}
        for name, rows in found.items()
    }


def _median(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    return (
        statistics.median(cpu for cpu, _ in rounds),
        statistics.median(rate for _, rate in rounds),
    )


def main() -> None:
    """Measure and print."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs,), daemon=True
    )
    process.start()
    try:
        results = asyncio.run(compare(f"http://127.0.0.1:{ours.recv()}/v1"))
    finally:
        process.terminate()
        process.join()
    report(results)


def report(results: dict[str, dict[int, tuple[float, float]]]) -> None:
    """A table for people and the JSON line for machines."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{CALLS} calls a round, median of {ROUNDS} rounds: CPU ms a call, calls a second")
    for name, rows in results.items():
        cells = [
            f"{number:>3}: {cpu:6.3f} ms {rate:7.0f}/s" for number, (cpu, rate) in rows.items()
        ]
        print(f"  {name:<18}", "   ".join(cells))
    ratio = results["rotina, ledger"][16][0] / results["openai"][16][0]
    details = {
        name: {
            number: {"cpu_ms": round(cpu, 3), "per_s": round(rate)}
            for number, (cpu, rate) in rows.items()
        }
        for name, rows in results.items()
    }
    line = {
        "name": "gateway_client",
        "ratio": round(ratio, 3),
        "goal": GOAL,
        "peer": "openai client, CPU a call at 16 concurrent",
        "details": details,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
