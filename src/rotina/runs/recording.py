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
        bytes_of = {"request": self.request, "answer": answer, "digest": self.key["digest"]}
        row = {**self.key, **{name: packed(value) for name, value in bytes_of.items()}}
        self.recording.journal.record(row)
        await self.recording.journal.commit()


class Recording:
    """What one attempt asks and is told; for any number of concurrent calls."""

    def __init__(self, journal: Journal, *, resumes: bool) -> None:
        """`resumes`: an earlier attempt may have been told something; else nothing is read."""
        self.journal = journal
        self._resumes = resumes
        self._asked: Counter[tuple[str, str, bytes]] = Counter()
        self._sql = load_queries("rotina.runs")

    async def recall(self, kind: str, request: Mapping[str, Any]) -> Slot:
        """The place of a call, to be called in a node; `request` is JSON."""
        task = str(get_config()["configurable"].get("checkpoint_ns", ""))
        plain = json.dumps(
            to_jsonable_python(request), sort_keys=True, separators=(",", ":")
        ).encode()
        digest = hashlib.sha256(plain).digest()
        asked = task, kind, digest
        key = {
            "task": task,
            "kind": kind,
            "digest": digest,
            "nth": self._asked[asked],
            "node": "|".join(part.partition(":")[0] for part in task.split("|")),
        }
        self._asked[asked] += 1
        return Slot(self, key, plain, await self._known(key) if self._resumes else None)

    async def _known(self, key: Mapping[str, Any]) -> bytes | None:
        values = {"run_id": self.journal.run_id, **key}
        async with self.journal.fence.pool.connection() as connection:
            cursor = await connection.execute(self._sql["recorded_answer"], values)
            row = await cursor.fetchone()
        return None if row is None else bytes(row["answer"])


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


def _current() -> Recording | None:
    try:
        context = get_runtime().context
    except RuntimeError:
        return None
    found = getattr(context, "recording", None)
    return found if isinstance(found, Recording) else None
