"""The record of what a run was told: by models, and by its steps.

An answer is found again by where it was asked (LangGraph's task), what was asked (a digest of the
request) and how often the same had been asked there before. So calls that a node makes at once
find their answers in any order, and a changed prompt is a new question. The checkpoint that the
task's identity hangs on is committed with the first answer at the latest.
"""

import functools
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, get_type_hints

from langgraph.config import get_config
from langgraph.runtime import get_runtime
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from rotina.database import load_queries
from rotina.runs.journal import Journal, packed

P = ParamSpec("P")
T = TypeVar("T")

STEP = "step"
CLOCK = "clock"


@dataclass
class Slot:
    """The place of one call in the record."""

    recording: "Recording" = field(repr=False)
    key: dict[str, Any]
    request: bytes = field(repr=False)
    answer: bytes | None = None
    """What an earlier attempt was told; None: ask, then `keep`."""

    async def keep(self, answer: bytes) -> None:
        """Commit the answer, with all that the run has not committed yet.

        Raises `LeaseLostError`, with nothing written, when another worker owns the run.
        """
        self.add(answer)
        await self.recording.commit()

    def add(self, answer: bytes) -> None:
        """Commit the answer with what comes next: for what costs nothing to ask again."""
        self.recording.add(self.key, self.request, answer)


class Recording:
    """What one attempt asks and is told; for any number of concurrent calls."""

    def __init__(self, journal: Journal, *, resumes: bool) -> None:
        """`resumes`: an earlier attempt may have been told something; else nothing is read."""
        self._journal = journal
        self._resumes = resumes
        self._asked: Counter[tuple[str, str, bytes]] = Counter()
        self._facts: set[tuple[str, bytes]] = set()
        self._sql = load_queries("rotina.runs")

    async def recall(self, kind: str, request: Mapping[str, Any]) -> Slot:
        """The place of a call, to be called in a node; `request` is JSON."""
        task = str(get_config()["configurable"].get("checkpoint_ns", ""))
        plain, digest = digested(request)
        asked = task, kind, digest
        key = {
            "task": task,
            "kind": kind,
            "digest": digest,
            "nth": self._asked[asked],
            "node": "|".join(part.partition(":")[0] for part in task.split("|")),
        }
        self._asked[asked] += 1
        return Slot(self, key, plain, await self.known(key, plain))

    async def once(
        self, kind: str, request: Mapping[str, Any], work: Callable[[], Awaitable[Any]]
    ) -> Any:
        """What `work` gives, which is JSON; a replay takes it from the record and does nothing.

        It is committed with what comes next: a resumed run may do the work again.
        """
        slot = await self.recall(kind, request)
        if slot.answer is not None:
            return json.loads(slot.answer)
        told = await work()
        slot.add(json.dumps(told).encode())
        return told

    def fact(self, kind: str, request: Mapping[str, Any], tell: Callable[[], int]) -> int:
        """What `tell` says, which no node changes: recorded once a run, for a replay elsewhere."""
        plain, digest = digested(request)
        value = tell()
        if (kind, digest) not in self._facts:
            self._facts.add((kind, digest))
            key = {"task": "", "kind": kind, "digest": digest, "nth": 0, "node": ""}
            self.add(key, plain, str(value).encode())
        return value

    def add(self, key: Mapping[str, Any], request: bytes, answer: bytes) -> None:
        """Keep an answer, to be committed with what comes next."""
        bytes_of = {"request": request, "answer": answer, "digest": key["digest"]}
        row = {**key, **{name: packed(value) for name, value in bytes_of.items()}}
        self._journal.record(row)

    async def commit(self) -> None:
        """Commit what was added. Raises `LeaseLostError`."""
        await self._journal.commit()

    async def known(self, key: Mapping[str, Any], request: bytes) -> bytes | None:  # noqa: ARG002
        """What an earlier attempt was told at this place; `request` is what is asked there."""
        if not self._resumes:
            return None
        values = {"run_id": self._journal.run_id, **key}
        async with self._journal.fence.pool.connection() as connection:
            cursor = await connection.execute(self._sql["recorded_answer"], values)
            row = await cursor.fetchone()
        return None if row is None else bytes(row["answer"])


def digested(request: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """A request as canonical JSON, and its SHA-256."""
    value = to_jsonable_python(request, fallback=repr)
    plain = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return plain, hashlib.sha256(plain).digest()


def step(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Make an async function a step: what it returned once, a resumed run is not told anew.

    For what a node asks of the world besides models: an HTTP GET, the time, a random number. A
    step that was under way when its worker died runs again; what must not happen twice is an
    effect. Arguments and result have to be JSON or what pydantic makes of it by the annotations
    of the function. Outside a run the function just runs.
    """
    hints = get_type_hints(function)
    result: TypeAdapter[T] = TypeAdapter(hints.get("return", Any))
    signature = inspect.signature(function)
    name = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    async def recorded(*arguments: P.args, **named: P.kwargs) -> T:
        recording = _current()
        if recording is None:
            return await function(*arguments, **named)
        given = signature.bind(*arguments, **named)
        request = {"step": name, "arguments": to_jsonable_python(given.arguments)}
        slot = await recording.recall(STEP, request)
        if slot.answer is not None:
            return result.validate_json(slot.answer)
        told = await function(*arguments, **named)
        await slot.keep(result.dump_json(told))
        return told

    return recorded


async def now() -> datetime:
    """The time in UTC; in a run, the same one when what came of it is resumed or replayed."""
    recording = _current()
    if recording is None:
        return datetime.now(UTC)
    slot = await recording.recall(CLOCK, {})
    if slot.answer is not None:
        return datetime.fromisoformat(slot.answer.decode())
    told = datetime.now(UTC)
    slot.add(told.isoformat().encode())
    return told


def _current() -> Recording | None:
    try:
        context = get_runtime().context
    except RuntimeError:
        return None
    found = getattr(context, "recording", None)
    return found if isinstance(found, Recording) else None
