"""Replay: a run's graph is driven again from its record, with nothing else to ask.

Whatever a node asks is looked for by the node's name, the kind of the question and its digest. The
first question that the run was not asked, or that it was asked and the replay is not, is where the
graph has come to do something else.
"""

import difflib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4, uuid5

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt

from rotina.errors import ReplayError, RunNotFoundError
from rotina.runs import questions
from rotina.runs.children import Child, Children
from rotina.runs.driver import INTERRUPT, Attempt, describe, final_output
from rotina.runs.effects import Act, Effects, Receipt, Reconcile, Transaction
from rotina.runs.record import Decided, Record, Told, Waited
from rotina.runs.recording import Recording, digested
from rotina.runs.workflow import FileReference, Workflow


@dataclass(frozen=True)
class Divergence:
    """Where a replay first differs from its run."""

    node: str | None
    what: str
    """One line."""
    diff: str = ""
    """Recorded against replayed, as `diff -u` writes it."""
    missing: bool = False
    """Whether the replay asked for what is merely not on record."""

    def __str__(self) -> str:
        """For a person."""
        where = f"node {self.node}: " if self.node else ""
        return f"{where}{self.what}" + (f"\n{self.diff}" if self.diff else "")


@dataclass(frozen=True)
class Replay:
    """What came of a replay."""

    divergence: Divergence | None
    """None: it did what its run did."""
    answers: int
    """Answers of models, steps, searches and queries that it was given."""
    effects: int
    """Receipts that it was given; nothing was done."""


@dataclass
class _Tape:
    """What is left of a record, and the first thing that was not on it."""

    record: Record
    divergence: Divergence | None = None
    answers: int = 0
    effects: set[str] = field(default_factory=set)
    told: dict[tuple[str, str, bytes], deque[Told]] = field(init=False)
    facts: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    done: dict[str, Receipt] = field(init=False)
    decided: list[Decided] = field(init=False)
    waited: list[Waited] = field(init=False)

    def __post_init__(self) -> None:
        self.told = defaultdict(deque)
        for each in self.record.told:
            if each.node:
                self.told[each.node, each.kind, each.digest].append(each)
            else:
                self.facts[each.kind, each.digest] = each.answer
        self.done = {each.name: each.receipt for each in self.record.done}
        self.decided = list(self.record.decided)
        self.waited = list(self.record.waited)

    @property
    def left(self) -> list[Told]:
        """Answers that nobody asked for, in their order."""
        unused = {id(each) for queue in self.told.values() for each in queue}
        return [each for each in self.record.told if id(each) in unused]

    def diverge(
        self, node: str | None, what: str, diff: str = "", *, missing: bool = False
    ) -> ReplayError:
        """The error to raise; a node that swallows it does not hide the first divergence."""
        self.divergence = self.divergence or Divergence(node, what, diff, missing)
        return ReplayError(str(self.divergence))

    def answer(self, node: str, kind: str, digest: bytes, request: bytes) -> bytes:
        """What the run was told."""
        queue = self.told[node, kind, digest]
        if not queue:
            what, diff = self._not_asked(node, kind, request)
            raise self.diverge(node, what, diff, missing=not diff)
        self.answers += 1
        return queue.popleft().answer

    def receipt(self, name: str) -> Receipt:
        """What an effect of the run left behind."""
        if name not in self.done:
            what = f"the effect {name!r} was not done by the run"
            raise self.diverge(None, what, missing=True)
        self.effects.add(name)
        return self.done[name]

    def _not_asked(self, node: str, kind: str, request: bytes) -> tuple[str, str]:
        near = [each for each in self.left if each.node == node and each.kind == kind]
        if not near:
            return f"asks a {kind} that its run did not ask: {_short(request)}", ""
        return f"asks a {kind} with another request", _diff(near[0].request, request)


class _TapeRecording(Recording):
    """Answers from the record, whatever is asked."""

    def __init__(self, tape: _Tape) -> None:  # there is no journal: nothing is kept
        self._asked = Counter()
        self._tape = tape

    def fact(self, kind: str, request: Mapping[str, Any], tell: Callable[[], int]) -> int:
        known = self._tape.facts.get((kind, digested(request)[1]))
        return tell() if known is None else int(known)

    async def known(self, key: Mapping[str, Any], request: bytes) -> bytes | None:
        return self._tape.answer(key["node"], key["kind"], key["digest"], request)


class _TapeEffects(Effects):
    """Receipts from the record; does nothing."""

    def __init__(self, tape: _Tape) -> None:  # there is no fence: nothing is done
        self._tape = tape

    def key(self, name: str) -> UUID:
        return uuid5(self._tape.record.run.id, name)

    async def transact(self, name: str, change: Transaction) -> Receipt:  # noqa: ARG002
        return self._tape.receipt(name)

    async def call(
        self,
        name: str,
        act: Act,  # noqa: ARG002
        *,
        repeatable: bool = False,  # noqa: ARG002
        reconcile: Reconcile | None = None,  # noqa: ARG002
    ) -> Receipt:
        return self._tape.receipt(name)


class _TapeChildren(Children):
    """Children that the run had; starts none."""

    def __init__(self, tape: _Tape) -> None:  # what its parent needs is for starting some
        self._tape = tape

    async def start(
        self,
        name: str,
        workflow: str,  # noqa: ARG002
        value: Mapping[str, Any],  # noqa: ARG002
        *,
        priority: int | None = None,  # noqa: ARG002
    ) -> UUID:
        return UUID(self._tape.receipt(name)["first"])

    async def map(
        self,
        name: str,
        workflow: str,  # noqa: ARG002
        values: Sequence[Mapping[str, Any]],
        *,
        limit: int | None = None,  # noqa: ARG002
    ) -> list[Child]:
        if not values:
            return []
        self._tape.receipt(name)
        return next(group.children for group in self._tape.record.groups if group.name == name)


async def replay(workflow: Workflow, record: Record, context: Callable[[Attempt], Any]) -> Replay:
    """Drive the run's graph again, in memory; `context` is what a worker's driver is given.

    The graph gets the run's input and, for whatever it asks, the answer on record; effects give
    their receipts and do nothing. Raises nothing for what happens in it.
    """
    tape = _Tape(record)
    attempt = Attempt(
        run=record.run,
        recording=_TapeRecording(tape),
        effects=_TapeEffects(tape),
        children=_TapeChildren(tape),
        read_file=_reader(record),
    )
    try:
        state = await _through(workflow, tape, context(attempt))
        found = None if state is None else final_output(workflow, state)
        _compare(tape, "succeeded", found, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is what the run ends with
        if tape.divergence is None:
            _compare(tape, "failed", None, describe(error, None))
    return Replay(_first(tape), tape.answers, len(tape.effects))


async def _through(workflow: Workflow, tape: _Tape, context: Any) -> dict[str, Any] | None:
    """The graph's final state; None: it waits, as its run does."""
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    store = getattr(context, "memory", None)
    graph = workflow.graph.copy(update={"checkpointer": saver, "store": store})
    config: RunnableConfig = {
        "configurable": {"thread_id": str(uuid4())},
        "recursion_limit": workflow.max_steps,
    }
    entry: Any = tape.record.run.input
    while True:
        state: dict[str, Any] = await graph.ainvoke(entry, config, context=context)
        asked = state.get(INTERRUPT, ())
        if not asked:
            return state
        answers = {each.id: _answer(tape, each) for each in asked}
        given = {key: answer for key, answer in answers.items() if answer is not None}
        if not given:
            return None
        entry = Command(resume={key: answer["answer"] for key, answer in given.items()})


def _answer(tape: _Tape, interrupt: Interrupt) -> dict[str, Any] | None:
    """What came of a question or a wait, under `answer`; None: nothing yet."""
    asked = questions.read(interrupt)
    if isinstance(asked, questions.Question):
        for at, each in enumerate(tape.decided):
            same = (each.question, each.form, each.data, each.assignee)
            if same == (asked.question, dict(asked.form), dict(asked.data), asked.assignee):
                return {"answer": tape.decided.pop(at).answer}
        if tape.record.run.ended:
            what = f"asks a person {asked.question!r}, which its run did not"
            diff = _nearest(tape, asked)
            raise tape.diverge(None, what, diff, missing=not diff)
        return None
    for at, waited in enumerate(tape.waited):
        if (waited.kind, waited.name, waited.key) == (asked.kind, asked.name, asked.key):
            return {"answer": {"event": tape.waited.pop(at).answer}}
    if tape.record.run.ended:
        what = f"waits for {asked.name or 'a moment'}, which its run did not"
        raise tape.diverge(None, what, missing=True)
    return None


def _nearest(tape: _Tape, asked: questions.Question) -> str:
    near = next((each for each in tape.decided if each.question == asked.question), None)
    if near is None:
        return ""
    now = {"form": asked.form, "data": asked.data, "assignee": asked.assignee}
    then = {"form": near.form, "data": near.data, "assignee": near.assignee}
    return _diff(json.dumps(then).encode(), json.dumps(now).encode())


def _compare(
    tape: _Tape, state: str, result: dict[str, Any] | None, error: dict[str, Any] | None
) -> None:
    """Note how the end differs from the run's."""
    run, left = tape.record.run, tape.left
    if not run.ended or run.state == "cancelled":
        return
    if state != run.state:
        why = (error or run.error or {}).get("message", "")
        tape.diverge(None, f"its run {run.state}, the replay {state}: {why}")
    # An attempt that was given up may have been told what the next one did not ask.
    elif left and run.state == "succeeded" and run.attempts <= 1:
        asked = f"its run asked a {left[0].kind} that the replay did not: {_short(left[0].request)}"
        tape.diverge(left[0].node, asked)
    elif result != run.result:
        recorded, replayed = (json.dumps(each).encode() for each in (run.result, result))
        tape.diverge(None, "another result", _diff(recorded, replayed))
    elif error is not None and run.error is not None:
        then, now = ({key: e.get(key) for key in ("type", "message")} for e in (run.error, error))
        if then != now:
            tape.diverge(
                None, "another error", _diff(json.dumps(then).encode(), json.dumps(now).encode())
            )


def _first(tape: _Tape) -> Divergence | None:
    """The divergence, unless it is merely the end of the record.

    What failed was not recorded, and what is under way is not yet: there a replay ends.
    """
    found = tape.divergence
    over = tape.record.run.state != "succeeded" and not tape.left
    return None if found is None or (over and found.missing) else found


def _reader(record: Record) -> Callable[[FileReference], Awaitable[bytes]]:
    async def read(reference: FileReference) -> bytes:
        try:
            return record.files[reference.sha256]
        except KeyError:
            raise RunNotFoundError(f"{reference.name!r} is no file of the recorded run") from None

    return read


def _short(request: bytes) -> str:
    text = request.decode(errors="replace")
    return text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004


def _diff(recorded: bytes, replayed: bytes) -> str:
    then, now = (
        json.dumps(json.loads(each), indent=1, sort_keys=True, ensure_ascii=False).splitlines()
        for each in (recorded, replayed)
    )
    return "\n".join(difflib.unified_diff(then, now, "recorded", "replayed", lineterm="", n=2))
