"""Code from a task as a durable run: a real driver, a scripted model, a real sandbox."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rotina.database import Pool
from rotina.gateway import Gateway, PostgresLedger, RetryPolicy
from rotina.graphs.coding import Coding, CodingResult, SandboxLimits, build_coding
from rotina.graphs.context import make_context
from rotina.knowledge.loading import Limits
from rotina.runs import Driver, Registry, Run, RunStore, WorkerLease, sweep
from rotina.settings import Settings
from tests.scripted_model import Request, ScriptedModel, chat, status, unused_port
from workflows.text_jobs import WRITE_CODE

TASK = "Write double(x): twice x."
TESTS = """\
def test_double():
    assert double(2) == 4


def test_zero():
    assert double(0) == 0
"""
RIGHT = "```python\ndef double(x):\n    return 2 * x\n```"
WRONG = "```python\ndef double(x):\n    return x\n```"
WORSE = "```python\ndef double(x):\n    return None\n```"
CASES = {
    "cases": [
        {"call": "double(2)", "equals": "4"},
        {"call": "double(", "equals": "1"},
        {"call": "double(None)", "raises": "TypeError"},
    ]
}
LIMITS = SandboxLimits(seconds=30, cpu_seconds=10)


@dataclass
class Stage:
    """What a test needs to have code written."""

    store: RunStore
    driver: Driver
    model: ScriptedModel
    pool: Pool

    async def write(self, **value: Any) -> Run:
        accepted = await self.store.accept(WRITE_CODE, {"task": TASK, **value})
        await self.driver.drive(accepted.id)
        return await self.store.get(accepted.id)

    async def again(self, run: Run, driver: Driver | None = None) -> Run:
        """Drive a run that was handed back, now."""
        async with self.pool.connection() as connection:
            await connection.execute("update rotina.run set available_at = now()")
        await (driver or self.driver).drive(run.id)
        return await self.store.get(run.id)

    async def asked_at(self, run: Run) -> list[str | None]:
        """The nodes whose model calls are in the ledger, in order."""
        return [call.node for call in await self.store.model_calls(run.id)]


def coded(run: Run) -> CodingResult:
    assert run.result is not None, run.error
    return CodingResult.model_validate(run.result["coding"])


@pytest.fixture
async def stage(pool: Pool) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(ScriptedModel())
        driver = await stack.enter_async_context(driving(pool, model.base_url))
        yield Stage(RunStore(pool, tenant="acme"), driver, model, pool)


@contextlib.asynccontextmanager
async def driving(pool: Pool, url: str) -> AsyncIterator[Driver]:
    """A worker with one workflow and one model."""
    build = lambda: build_coding(Coding(limits=LIMITS))  # noqa: E731
    settings = Settings(
        deployments={"one": {"model": "scripted", "base_url": url}},
        routes={"smart": {"deployments": ["one"]}},
    )
    retry = RetryPolicy(attempts=1)
    async with (
        Gateway(settings, PostgresLedger(pool), retry=retry) as gateway,
        WorkerLease(pool, 30).held() as lease,
    ):
        yield Driver(
            pool,
            Registry([replace(WRITE_CODE, build=build)]),
            lease,
            lambda attempt: make_context(pool, gateway, Limits(), attempt),
        )


async def test_code_that_passes_at_once(stage: Stage) -> None:
    stage.model.script = f"Sure!\n{RIGHT}\nThis doubles."
    run = await stage.write(tests=TESTS)
    told = coded(run)
    assert (told.passed, told.outcome, told.rounds, told.tests_by) == (True, "passed", 1, "caller")
    assert told.code == "def double(x):\n    return 2 * x\n"
    assert (told.tests, told.attempts[0].passed_cases) == (TESTS, 2)
    assert "hook" in told.attempts[0].guards
    assert await stage.asked_at(run) == ["write_code"]


async def test_a_failure_is_shown_to_the_model_that_repairs_it(stage: Stage) -> None:
    stage.model.script = [WRONG, RIGHT]
    told = coded(await stage.write(tests=TESTS))
    assert (told.passed, told.rounds) == (True, 2)
    assert [attempt.outcome for attempt in told.attempts] == ["failed", "passed"]
    first, second = stage.model.requests
    assert TESTS.strip() in first.last_message
    assert "did not pass (failed)" in second.last_message
    assert "assert double(2) == 4" in second.last_message
    assert "return x" in second.body["messages"][-2]["content"], "with the code that failed"
    assert second.body["messages"][: len(first.body["messages"])] == first.body["messages"], (
        "the first conversation is the prefix of the second"
    )


async def test_code_that_never_passes_is_a_result(stage: Stage) -> None:
    stage.model.script = [WORSE, WRONG, WORSE]
    run = await stage.write(tests=TESTS)
    told = coded(run)
    assert run.state == "succeeded"
    assert (told.passed, told.outcome, told.rounds) == (False, "failed", 3)
    assert told.code == "def double(x):\n    return x\n", "the one that passed most tests"
    assert "assert double(2) == 4" in told.output
    assert len(stage.model.requests) == 3


@pytest.mark.parametrize(
    ("first", "outcome", "shown"),
    [
        ("I cannot do that.", "no_code", "held no Python code"),
        ("```python\ndef double(x:\n```", "error", "SyntaxError"),
        ("```python\nimport numpy\n```", "error", "No module named 'numpy'"),
        ("```python\ndef double(x):\n    return open('/etc/passwd')\n```", "failed", "not allowed"),
        ("```python\nimport os\nos._exit(0)\n```", "crashed", "ended before its tests"),
        ("```python\nprint('\\ud800' if 0 else '\\0')\n```", "failed", "double"),
    ],
)
async def test_whatever_went_wrong_is_repaired(
    stage: Stage, first: str, outcome: str, shown: str
) -> None:
    stage.model.script = [first, RIGHT]
    told = coded(await stage.write(tests=TESTS))
    assert [attempt.outcome for attempt in told.attempts] == [outcome, "passed"]
    assert shown in stage.model.requests[1].last_message


async def test_an_answer_that_was_cut_is_asked_for_again(stage: Stage) -> None:
    stage.model.script = [chat("```python\ndef double(x):", finish_reason="length"), RIGHT]
    told = coded(await stage.write(tests=TESTS))
    assert [attempt.outcome for attempt in told.attempts] == ["no_code", "passed"]


async def test_the_model_writes_tests_where_there_are_none(stage: Stage) -> None:
    stage.model.script = [CASES, WRONG, RIGHT]
    run = await stage.write()
    told = coded(run)
    assert await stage.asked_at(run) == ["write_tests", "write_code", "write_code"]
    assert told.tests_by == "model"
    assert told.tests.count("def test_") == 2, "a case that is no Python is left out"
    # 2 * None raises a TypeError, as the second case wants.
    assert [attempt.passed_cases for attempt in told.attempts] == [0, 2]
    assert told.passed
    assert all(told.tests.strip() in each.prompt for each in stage.model.requests[1:])


async def test_without_any_test_the_code_is_untested(stage: Stage) -> None:
    stage.model.script = lambda request: "no" if request.schema else RIGHT
    told = coded(await stage.write())
    assert (told.passed, told.outcome, told.tests, told.rounds) == (False, "no_tests", "", 1)
    assert told.code.startswith("def double")


async def test_a_task_in_portuguese(stage: Stage) -> None:
    task = "Escreva dobro(x): o dobro de x; 'não é número' se x não for número."
    tests = "def test_ação():\n    assert dobro('a') == 'não é número'\n"
    code = "def dobro(x):\n    return 2 * x if isinstance(x, int) else 'não é número'\n"
    stage.model.script = f"Aqui está:\n```python\n{code}```"
    told = coded(await stage.write(task=task, tests=tests))
    assert (told.passed, told.code) == (True, code)
    assert task in stage.model.requests[0].last_message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"task": " \n"}, "There is no task: say what the code shall do."),
        ({"tests": "def ("}, "correct or omit them"),
        ({"tests": "(" * 10_000}, "correct or omit them"),
        ({"tests": "import pytest\nfrom acme.shop import x"}, "The tests import acme, pytest"),
    ],
)
async def test_what_cannot_work_fails_with_the_remedy(
    stage: Stage, value: dict[str, Any], said: str
) -> None:
    run = await stage.write(**value)
    assert run.error is not None
    assert (run.state, run.error["type"]) == ("failed", "InvalidInputError")
    assert (run.error["node"], stage.model.requests) == ("prepare", [])
    assert said in run.error["message"]


async def test_a_model_server_that_is_down_is_tried_again(stage: Stage) -> None:
    stage.model.script = [WRONG, status(503), RIGHT]
    run = await stage.write(tests=TESTS)
    assert (run.state, run.attempts) == ("queued", 1)
    told = coded(await stage.again(run))
    assert [attempt.outcome for attempt in told.attempts] == ["failed", "passed"]
    assert len(stage.model.requests) == 3, "the finished round is not asked for again"


async def test_a_model_server_that_stays_down_fails_the_run(stage: Stage) -> None:
    async with driving(stage.pool, f"http://127.0.0.1:{unused_port()}/v1") as driver:
        run = await Stage(stage.store, driver, stage.model, stage.pool).write(tests=TESTS)
        while run.state == "queued":
            run = await stage.again(run, driver)
    assert run.error is not None
    assert (run.state, run.attempts) == ("failed", run.max_attempts)
    assert run.error["type"] == "ModelUnreachableError"
    assert run.error["node"] == "write_code"


async def test_another_worker_goes_on_after_the_finished_rounds(stage: Stage) -> None:
    """The first worker is taken for dead in its second round; what it then does is not kept."""

    swept: list[int] = []

    async def die(request: Request) -> str:
        if len(stage.model.requests) == 2:
            async with stage.pool.connection() as connection:
                await connection.execute("update rotina.worker set expires_at = now()")
            swept.append((await sweep(stage.pool)).requeued)
        return WRONG if len(stage.model.requests) == 1 else RIGHT

    stage.model.script = die
    run = await stage.write(tests=TESTS)
    assert (run.state, run.attempts, swept) == ("queued", 1, [1])
    async with driving(stage.pool, stage.model.base_url) as another:
        run = await stage.again(run, another)
    told = coded(run)
    assert (run.state, run.attempts) == ("succeeded", 2)
    assert [attempt.outcome for attempt in told.attempts] == ["failed", "passed"]
    rounds = ["did not pass" in request.last_message for request in stage.model.requests]
    assert rounds == [False, True, True], "the first round is not asked for again"


async def test_many_runs_share_the_sandboxes(stage: Stage) -> None:
    stage.model.script = RIGHT
    accepted = [
        await stage.store.accept(WRITE_CODE, {"task": TASK, "tests": TESTS}) for _ in range(8)
    ]
    await asyncio.gather(*(stage.driver.drive(each.id) for each in accepted))
    runs = [await stage.store.get(each.id) for each in accepted]
    assert all(coded(run).passed for run in runs)
