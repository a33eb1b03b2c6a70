"""Drives one run: claims it, streams its graph under the fence, and writes how it ended."""

import asyncio
import contextlib
import logging
import random
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from uuid import UUID

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt
from psycopg_pool import PoolTimeout
from pydantic import ValidationError

from rotina.database import Pool, load_queries
from rotina.database.text import storable
from rotina.errors import LeaseLostError, RotinaError, RunError, TryLaterError
from rotina.runs import questions
from rotina.runs.checkpointer import RunCheckpointer
from rotina.runs.children import Children
from rotina.runs.effects import Effects
from rotina.runs.journal import Journal
from rotina.runs.lease import Claim, WorkerLease
from rotina.runs.recording import Recording
from rotina.runs.run import Run
from rotina.runs.store import RunStore
from rotina.runs.workflow import FileReference, Queue, Registry, Tell, Workflow

logger = logging.getLogger(__name__)

Outcome = Literal[
    "nothing",
    "succeeded",
    "failed",
    "cancelled",
    "waiting",
    "retrying",
    "later",
    "drained",
    "lost",
]
"""`nothing`: there was no run to claim; `waiting`: for a person, a moment or an event; `later`: a
node could not go on yet; `lost`: another worker took over in the middle."""

_Part = tuple[tuple[str, ...], str, dict[str, Any]]

INTERRUPT = "__interrupt__"
MAX_DELAY = 60.0
WATCH_SECONDS = 0.5
DATABASE_DOWN = (psycopg.OperationalError, PoolTimeout)


async def _leave_to_sweeper(queue: Queue, runs: int) -> None:
    """Nobody is told: the sweeper will do it."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run: what the context of its nodes is made of."""

    run: Run
    recording: Recording
    effects: Effects
    children: Children
    read_file: Callable[[FileReference], Awaitable[bytes]]
    """The bytes of a file stored with the run."""


@dataclass
class Driver:
    """Drives the runs of one worker process; safe for any number of concurrent `drive` calls."""

    pool: Pool
    registry: Registry
    lease: WorkerLease
    context: Callable[[Attempt], Any]
    """Builds the runtime context that the graph's nodes get."""
    redact: Callable[[str], str] = str
    """Takes secrets out of an error's text before it is stored."""
    ceilings: Mapping[str, int] = field(default_factory=dict)
    """How many runs a tenant, or with `*` each other one, may have under way."""
    tell: Tell = _leave_to_sweeper
    _active: dict[UUID, "_Driving"] = field(default_factory=dict)
    _draining: bool = False

    @property
    def draining(self) -> bool:
        """Whether it claims nothing more."""
        return self._draining

    async def take(self, wanted: UUID | Queue) -> Claim | None:
        """Claim the next run of a queue, or a certain one; it is for `work`, at once."""
        if self._draining or wanted in self._active:
            return None  # still queued: for another worker, or another time
        return await self.lease.claim(wanted, self.registry.versions, self.ceilings)

    async def work(self, claim: Claim) -> Outcome:
        """Drive a run that `take` returned to its end, or to where it has to stop.

        Raises nothing for what happens inside a run. A database that is down when the end is to
        be written is raised; the lease's beats then hand the run back to the queue.
        """
        run_id = claim.run.id
        driving = self._active[run_id] = _Driving(
            asyncio.current_task(), Journal(claim.fence), claim.resumes
        )
        if self._draining:
            driving.control.request_drain()
        try:
            return await self._attempt(claim, driving)
        except LeaseLostError:
            logger.warning("run %s was taken over by another worker", run_id)
            return "lost"
        finally:
            del self._active[run_id]
            self.lease.let_go(claim)

    async def drive(self, wanted: UUID | Queue) -> Outcome:
        """`take` and `work`."""
        claim = await self.take(wanted)
        return "nothing" if claim is None else await self.work(claim)

    def drain(self) -> None:
        """Ask every run under way to stop after its current step; claim nothing more."""
        self._draining = True
        for driving in self._active.values():
            driving.control.request_drain()

    async def watch(self) -> None:
        """Stop runs that somebody cancelled or paused, until this coroutine is cancelled."""
        sql = load_queries("rotina.runs")["runs_to_stop"]
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self._active:
                continue
            try:
                async with self.pool.connection() as connection:
                    cursor = await connection.execute(sql, {"worker_id": self.lease.id})
                    for row in await cursor.fetchall():
                        self._stop(row["id"], cancel=row["cancel"])
            except Exception:  # the next look may find the database back
                logger.exception("no look at what is to be stopped")

    def _stop(self, run_id: UUID, *, cancel: bool) -> None:
        driving = self._active.get(run_id)
        if driving is None or driving.cancelled:
            return
        if cancel and driving.task is not None:
            driving.cancelled = True
            driving.task.cancel()
        else:
            driving.control.request_drain()

    async def _attempt(self, claim: Claim, driving: "_Driving") -> Outcome:
        node, journal, run = _Node(), driving.journal, claim.run
        attempt = Attempt(
            run=run,
            recording=Recording(journal, resumes=claim.resumes),
            effects=Effects(claim.fence),
            children=Children(claim.fence, self.registry, run, self.tell),
            read_file=RunStore(self.pool, tenant=run.tenant).file,
        )
        try:
            workflow = self.registry[run.workflow]
            state = await self._stream(workflow, attempt, driving, node)
            if INTERRUPT in state:
                waits = [questions.read(each) for each in state[INTERRUPT]]
                await journal.suspend(waits, driving.given)
                return "waiting"
            result = final_output(workflow, state)
            await journal.finish("succeeded", result=result, error=None)
        except TryLaterError as later:
            reason = {"message": str(later)}
            await journal.release(kind="later", delay=later.seconds, refund=True, error=reason)
            return "later"
        except (GraphDrained, asyncio.CancelledError) as stop:
            if driving.cancelled:
                await journal.finish("cancelled", result=None, error=None)
                return "cancelled"
            await journal.release(kind="drained", refund=True)
            if isinstance(stop, asyncio.CancelledError):
                raise
            return "drained"
        except LeaseLostError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the run must end
            return await self._end_attempt(run, journal, error, node.failed or node.name)
        finally:
            journal.close()
        return "succeeded"

    async def _stream(
        self, workflow: Workflow, attempt: Attempt, driving: "_Driving", node: "_Node"
    ) -> dict[str, Any]:
        """Run the graph from its last checkpoint; returns the final state, or what it asks."""
        run, journal = attempt.run, driving.journal
        checkpointer = RunCheckpointer(self.pool, journal, resumes=driving.resumes)
        context = self.context(attempt)
        store = getattr(context, "memory", None)
        graph = workflow.graph.copy(update={"checkpointer": checkpointer, "store": store})
        config: RunnableConfig = {
            "configurable": {"thread_id": str(run.id)},
            "recursion_limit": workflow.max_steps,
        }
        final: dict[str, Any] = {}
        asked: list[Interrupt] = []
        stream = graph.astream(
            await self._entry(run, driving, await checkpointer.aget_tuple(config)),
            config,
            context=context,
            stream_mode=["tasks", "values"],
            subgraphs=True,
            durability="sync",
            control=driving.control,
        )
        # Closed whatever happens: parallel nodes must not go on asking models for a lost run.
        async with contextlib.aclosing(cast("AsyncGenerator[_Part, None]", stream)) as parts:
            async for namespace, mode, payload in parts:
                if mode == "values" and not namespace:
                    # Parallel nodes that ask come one after the other.
                    asked += payload.get(INTERRUPT, ())
                    final = payload
                elif mode == "tasks":
                    _note(journal, node, payload)
        return {INTERRUPT: asked} if asked else final

    async def _entry(self, run: Run, driving: "_Driving", head: CheckpointTuple | None) -> Any:
        """What the graph is given: the input, nothing when it resumes, or what it waited for."""
        if head is None:
            return run.input
        if all(channel != INTERRUPT for _, channel, _ in head.pending_writes or ()):
            return None
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                load_queries("rotina.runs")["answers"], {"run_id": run.id}
            )
            rows = await cursor.fetchall()
        driving.given.extend(row["id"] for row in rows)
        answers = {row["interrupt_id"]: row["answer"] for row in rows}
        # Without an answer the node runs again, and asks again.
        return Command(resume=answers) if answers else None

    async def _end_attempt(
        self, run: Run, journal: Journal, error: BaseException, node: str | None
    ) -> Outcome:
        """Hand the run back where another attempt may help; end it failed otherwise."""
        transient = isinstance(error, DATABASE_DOWN) or getattr(error, "transient", False)
        if not isinstance(error, RotinaError):
            trace = storable(self.redact("".join(traceback.format_exception(error))))
            logger.error("run %s: node %s raised\n%s", run.id, node, trace)
        described = describe(error, node, self.redact)
        if transient and run.attempts < run.max_attempts:
            # Jitter on the upper half: a fleet must not come back in one wave.
            delay = min(MAX_DELAY, 2.0**run.attempts) * random.uniform(0.5, 1.0)  # noqa: S311
            await journal.release(kind="retry", delay=delay, refund=False, error=described)
            return "retrying"
        logger.info("run %s failed: %s", run.id, type(error).__name__)
        await journal.finish("failed", result=None, error=described)
        return "failed"


def describe(
    error: BaseException, node: str | None, redact: Callable[[str], str] = str
) -> dict[str, Any]:
    """An error as runs keep it: `type`, `message` without secrets, `node`."""
    message = str(error) or repr(error)
    if isinstance(error, GraphRecursionError):
        message = "the graph made more steps than its workflow's max_steps, without an end"
    message = storable(redact(message))[:4000]
    return {"type": type(error).__name__, "message": message, "node": node}


def _note(journal: Journal, node: "_Node", payload: dict[str, Any]) -> None:
    if "result" not in payload and "error" not in payload:
        node.name = payload["name"]
        node.started[payload["id"]] = asyncio.get_running_loop().time()
    elif payload.get("error") is not None:
        # The innermost node tells first, then each graph around it.
        node.failed = node.failed or payload["name"]
    else:
        begun = node.started.pop(payload["id"], None)
        now = asyncio.get_running_loop().time()
        milliseconds = None if begun is None else round((now - begun) * 1000)
        journal.note("node", {"node": payload["name"], "ms": milliseconds})


def final_output(workflow: Workflow, state: dict[str, Any]) -> dict[str, Any]:
    """The run's result. Raises `RunError` for a final state that is no output."""
    try:
        return workflow.output.model_validate(state).model_dump(mode="json")
    except ValidationError as error:
        raise RunError(f"the final state is no output of {workflow.name!r}: {error}") from None


@dataclass
class _Driving:
    """A run under way, and how to stop it."""

    task: asyncio.Task[Any] | None
    journal: Journal
    resumes: bool
    """Whether an earlier attempt left something."""
    given: list[UUID] = field(default_factory=list)
    """The reviews and waits whose answers this attempt was told."""
    control: RunControl = field(default_factory=RunControl)
    cancelled: bool = False


@dataclass
class _Node:
    """Where an attempt stands, for its error and its timeline."""

    name: str | None = None
    """The node that started last."""
    failed: str | None = None
    """The node that raised."""
    started: dict[str, float] = field(default_factory=dict)
