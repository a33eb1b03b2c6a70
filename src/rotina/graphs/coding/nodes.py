"""Nodes of coding: prepare, write_tests, write_code, test, finish."""

import asyncio
from typing import Literal

from langgraph.runtime import Runtime

from rotina.errors import ContextTooLongError, InvalidInputError, ModelOutputError
from rotina.graphs.coding.coding import Attempt, Coding, CodingResult
from rotina.graphs.coding.prompts import cases_messages, cases_schema, code_messages
from rotina.graphs.coding.sandbox import run_tests
from rotina.graphs.coding.source import absent_modules, code_of, fault_of, tests_from
from rotina.graphs.coding.state import CodingState
from rotina.graphs.context import Context


class Nodes:
    """The nodes of one coding graph."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._free = asyncio.Semaphore(coding.at_once)

    async def prepare(self, state: CodingState) -> CodingState:
        """Refuse what cannot work (`InvalidInputError`): no task, or tests that cannot be run."""
        if not state.get("task", "").strip():
            raise InvalidInputError("There is no task: say what the code shall do.")
        tests = state.get("tests") or ""
        fault = fault_of(tests)
        if fault:
            raise InvalidInputError(f"The tests are not Python ({fault}): correct or omit them.")
        absent = absent_modules(tests)
        if absent:
            raise InvalidInputError(
                f"The tests import {', '.join(absent)}, which is not there when they run: use the "
                "standard library (assert, unittest) and the module `solution` only."
            )
        return {"attempts": [], "tests": tests, "tests_by": "caller" if tests.strip() else "model"}

    def after_prepare(self, state: CodingState) -> Literal["write_tests", "write_code"]:
        """The caller's tests are taken as they are."""
        return "write_code" if state["tests_by"] == "caller" else "write_tests"

    async def write_tests(self, state: CodingState, runtime: Runtime[Context]) -> CodingState:
        """Tests from the task alone, so that they are not made to fit the code.

        Without a usable answer there are none, and the code stays untested.
        """
        try:
            answer = await runtime.context.at("write_tests").chat(
                cases_messages(state["task"], self._coding.instructions),
                route=self._coding.route,
                schema=cases_schema(),
                schema_name="cases",
                max_tokens=self._coding.answer_tokens,
            )
        except ModelOutputError:
            return {"tests": ""}
        return {"tests": tests_from(answer.data["cases"])}

    async def write_code(self, state: CodingState, runtime: Runtime[Context]) -> CodingState:
        """Code for the task; from the second round on, a repair of the last attempt."""
        attempts = [Attempt.model_validate(attempt) for attempt in state["attempts"]]
        asked = code_messages(
            state["task"],
            state.get("tests") or "",
            self._coding.instructions,
            attempts[-1] if attempts else None,
        )
        try:
            answer = await runtime.context.at("write_code").chat(
                asked, route=self._coding.route, max_tokens=self._coding.answer_tokens
            )
        except (ModelOutputError, ContextTooLongError) as error:
            return {"code": "", "complaint": f"There was no usable answer: {error}"}
        return {"code": code_of(answer.text) or "", "complaint": "The answer held no Python code."}

    async def test(self, state: CodingState) -> CodingState:
        """Run the tests against the code, in its sandbox."""
        if not state["code"]:
            attempt = Attempt(code="", outcome="no_code", output=state["complaint"])
        else:
            async with self._free:  # its seconds count from here
                report = await run_tests(
                    state["code"], state.get("tests") or "", self._coding.limits
                )
            attempt = Attempt(
                code=state["code"],
                outcome=report.outcome,
                passed_cases=sum(case.passed for case in report.cases),
                output=report.output,
                guards=report.guards,
            )
        return {"attempts": [*state["attempts"], attempt.model_dump(mode="json")]}

    def after_test(self, state: CodingState) -> Literal["write_code", "finish"]:
        """Another round, unless it passed, nothing can be tested, or rounds are used up."""
        last = Attempt.model_validate(state["attempts"][-1])
        over = len(state["attempts"]) >= self._coding.rounds
        return "finish" if over or last.outcome in ("passed", "no_tests") else "write_code"

    async def finish(self, state: CodingState) -> CodingState:
        """The best attempt, and all of them."""
        attempts = [Attempt.model_validate(attempt) for attempt in state["attempts"]]
        best = max(
            enumerate(attempts),
            key=lambda each: (each[1].outcome == "passed", each[1].passed_cases, bool(each[1].code),
                              each[0]),
        )[1]  # fmt: skip
        result = CodingResult(
            code=best.code,
            passed=best.outcome == "passed",
            outcome=best.outcome,
            tests=state.get("tests") or "",
            tests_by="caller" if state["tests_by"] == "caller" else "model",
            output=best.output,
            rounds=len(attempts),
            attempts=attempts,
        )
        return {"coding": result.model_dump(mode="json")}
