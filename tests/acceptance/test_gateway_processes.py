"""`rotina gateway serve` as real processes: used, killed, drained."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import openai
import psutil
import pytest

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack
from tests.scripted_model import Behaviour, ScriptedModel, event, events

SERVES = re.compile(r"the gateway serves at (http://\S+)")
PAUSE = 0.4


def slow() -> Behaviour:
    """Eight pieces, a pause behind each."""
    pieces = [
        event({"choices": [{"index": 0, "delta": {"content": f"{number} "}}]})
        for number in range(8)
    ]
    last = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return events(*pieces, last, "data: [DONE]\n\n", gap=PAUSE)


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A model server in a thread of its own: what it does is decided while others wait for it."""
    model, loop = ScriptedModel("Bom dia!"), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(model.__aenter__(), loop).result(30)
    yield model
    asyncio.run_coroutine_threadsafe(model.__aexit__(None, None, None), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def gateway(processes: Stack, model: ScriptedModel) -> str:
    """The URL of a gateway with two workers over a scripted model, without Redis."""
    processes.environment = {
        **processes.environment,
        "OPENAI_BASE_URL": model.base_url,
        "ROTINA_MODEL": "scripted",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    processes.rotina("gateway", "gateway", "serve", "--port", "0", "--workers", "2")
    processes.wait_for("the gateway", lambda: bool(SERVES.search(processes.log("gateway"))))
    found = SERVES.search(processes.log("gateway"))
    assert found is not None
    return found[1]


def client_of(stack: Stack, url: str) -> openai.OpenAI:
    made = stack.run("keys", "create", "acceptance", "--tenant", "acme")
    assert made.returncode == 0, made.stderr
    return openai.OpenAI(base_url=f"{url}/v1", api_key=made.stdout.strip(), max_retries=5)


def ask(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(
        model="smart", messages=[{"role": "user", "content": "Olá"}]
    )
    return answer.choices[0].message.content or ""


def calls_of(client: openai.OpenAI) -> float:
    """How many good calls `/metrics` counts."""
    text = client.get("../metrics", cast_to=str)
    found = re.search(r'rotina_gateway_calls_total\{.*outcome="ok".*\} (\S+)', text)
    return float(found[1]) if found else 0.0


def test_a_worker_that_is_killed_is_replaced(
    processes: Stack, gateway: str, database_url: str
) -> None:
    supervisor = psutil.Process(processes.process("gateway").pid)
    with client_of(processes, gateway) as client:
        assert [ask(client) for _ in range(10)] == ["Bom dia!"] * 10
        first, second = supervisor.children()
        first.kill()
        assert [ask(client) for _ in range(10)] == ["Bom dia!"] * 10

        def replaced() -> bool:
            now = supervisor.children()
            return len(now) == 2 and first.pid not in {child.pid for child in now}

        processes.wait_for("another worker", replaced)
        assert ask(client) == "Bom dia!"
        assert calls_of(client) == 21, "of all workers, the dead one too"
    assert second.is_running()
    outcomes = rows(database_url, "select outcome, tenant from rotina.model_call")
    assert [(row["outcome"], row["tenant"]) for row in outcomes] == [("ok", "acme")] * 21
    children = supervisor.children()
    assert processes.terminate("gateway") == 0
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in processes.log("gateway")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_stream_under_way_is_finished(
    processes: Stack, gateway: str, model: ScriptedModel, sign: signal.Signals
) -> None:
    """SIGTERM drains; a supervisor that is killed leaves workers that drain by themselves."""
    model.script = slow()
    supervisor = psutil.Process(processes.process("gateway").pid)
    workers = supervisor.children()
    texts: list[str] = []
    with client_of(processes, gateway) as client:
        stream = client.chat.completions.create(
            model="smart", messages=[{"role": "user", "content": "Olá"}], stream=True
        )

        def read() -> None:
            texts.extend(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

        reading = threading.Thread(target=read)
        reading.start()
        time.sleep(PAUSE)
        os.kill(supervisor.pid, sign)
        reading.join(30)
        assert "".join(texts) == "0 1 2 3 4 5 6 7 "
        if sign is signal.SIGTERM:
            assert processes.terminate("gateway") == 0
        else:
            psutil.wait_procs([supervisor], 10)
        gone, alive = psutil.wait_procs(workers, 30)
        assert (len(gone), alive) == (2, [])
        with pytest.raises(openai.APIConnectionError):
            ask(client.with_options(max_retries=0))


def test_workers_that_cannot_start_say_why(processes: Stack) -> None:
    processes.environment = {
        **processes.environment,
        "DATABASE_URL": "postgresql://nobody:wrong@127.0.0.1:1/none",
    }
    for workers in ("1", "2"):
        ended = processes.run("gateway", "serve", "--port", "0", "--workers", workers)
        assert ended.returncode == 1
        assert "PostgreSQL does not answer" in ended.stderr
        assert "Traceback" not in ended.stderr
    taken = processes.run("gateway", "serve", "--port", "70000")
    assert (taken.returncode, "There is no port 70000" in taken.stderr) == (1, True)


def test_the_gateway_alone_loads_nothing_of_runs() -> None:
    heavy = {"celery", "kombu", "redis", "langgraph", "langchain_core", "fastapi", "numpy"}
    program = (
        "import sys, rotina.server.gateway.serving\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert heavy.isdisjoint(done.stdout.split())
