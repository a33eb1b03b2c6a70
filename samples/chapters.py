"""The chapters of the demo: each does one thing with the real system and says what came of it."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery
from rich.markup import escape
from rich.table import Table

from rotina.cli.tables import console, extraction_of, print_run
from rotina.runs import Run, ThreadMessage, Upload
from rotina.settings import load_settings
from rotina.triggers import ScheduleStore
from rotina.worker import Client

DEADLINE = 900.0
MESSAGES = (
    "Hi! How long does delivery take?",
    "Quero devolver a cafeteira que comprei na semana passada. Como faço?",
    "The blender arrived broken, there is glass everywhere in the box.",
    "Posso pagar com boleto?",
    "Já escrevi três vezes e ninguém responde. O atendimento é péssimo!",
    "How long is the warranty on a kettle?",
)
CHATS = (
    ("john@example.com", ("What payment methods do you accept?", "Where is my order AU-20324?")),
    (
        "ana@example.com",
        (
            "Em quantos dias posso trocar um produto?",
            "Quero abrir um chamado: a torradeira não liga mais.",
            "sim",
        ),
    ),
)

started = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}")


@dataclass
class Tally:
    """What the demo came to, a row a chapter."""

    runs: dict[str, list[UUID]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    good: bool = True

    def add(self, chapter: str, run_id: UUID) -> None:
        """Count a run."""
        self.runs.setdefault(chapter, []).append(run_id)

    async def print(self, client: Client) -> None:
        """The summary table, from what PostgreSQL says."""
        table = Table("what", "runs", "succeeded", "attempts", "seconds", "tokens", "came to")
        for chapter, ids in self.runs.items():
            runs = [await client.store.get(run_id) for run_id in ids]
            calls = [call for run_id in ids for call in await client.store.model_calls(run_id)]
            good = sum(run.state == "succeeded" for run in runs)
            tokens = sum((c.prompt_tokens or 0) + (c.completion_tokens or 0) for c in calls)
            seconds = sum(run.seconds or 0 for run in runs)
            figures = (len(runs), good, sum(run.attempts for run in runs))
            row = (chapter, *map(str, figures), f"{seconds:.1f}", str(tokens))
            table.add_row(*row, self.notes.get(chapter, ""))
            self.good = self.good and good == len(runs)
        console.rule()
        console.print(table)


async def load_help_center(client: Client, tally: Tally, folder: Path) -> None:
    """Collections help-en and help-pt, and the shop's orders."""
    async with client.pool.connection() as connection:
        await connection.execute((folder / "orders.sql").read_bytes())
    for language in ("en", "pt"):
        collection = f"help-{language}"
        await client.knowledge.create(collection, language=language, if_missing=True)
        for path in sorted((folder / language).glob("*.md")):
            upload = Upload(path.name, path.read_bytes())
            key = f"{collection}:{upload.reference.sha256}"
            value = {"collection": collection, "uri": path.name}
            accepted = await client.start("knowledge_ingest", value, key=key, upload=upload)
            tally.add("help centre", accepted.id)
    runs = [await client.wait(run_id, timeout=DEADLINE) for run_id in tally.runs["help centre"]]
    chunks = sum((run.result or {}).get("ingested", {}).get("chunks", 0) for run in runs)
    tally.notes["help centre"] = f"{len(runs)} articles in two languages, {chunks} chunks"
    say(f"help centre: {tally.notes['help centre']}")


# ── documents ─────────────────────────────────────────────────────────────────────────────────


async def read_documents(client: Client, tally: Tally, paths: Sequence[Path]) -> None:
    """Read the documents, kill their worker, print every field with its proof."""
    accepted: dict[UUID, Path] = {}
    for path in paths:
        run = await client.start("invoice_intake", {}, upload=Upload(path.name, _read(path)))
        accepted[run.id] = path
        tally.add("documents", run.id)
        say(f"accepted [bold]{path.name}[/] as run {run.id}")
    killed = await _kill_the_worker(client, list(accepted))
    runs = []
    waiting = [client.wait(run_id, timeout=DEADLINE, or_review=True) for run_id in accepted]
    for done in asyncio.as_completed(waiting):
        run = await done
        print_run(run, title=accepted[run.id].name)
        runs.append(await _approved(client, run))
    fields = [each for run in runs if (found := extraction_of(run)) for each in found.fields]
    proven = sum(each.proven for each in fields)
    fate = "; their worker was killed" if killed else ""
    tally.notes["documents"] = f"{proven} of {len(fields)} values proven{fate}"


async def _approved(client: Client, run: Run) -> Run:
    """An invoice above the limit waits for a person: the demo plays that person."""
    for asked in await client.reviews.list_open(run_id=run.id):
        say(f"[yellow]waits for a person:[/] {escape(asked.question)}")
        await client.answer(asked.id, {"approve": True, "comment": "demo"}, by="the demo")
        return await client.wait(run.id, timeout=DEADLINE)
    return run


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def _kill_the_worker(client: Client, run_ids: list[UUID]) -> bool:
    """Wait until a worker asks the model for the first document, then kill -9 its process.

    Only a worker of this machine is killed; False when there was none to kill.
    """
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        for run_id in run_ids:
            events = await client.store.events(run_id)
            starts = [event for event in events if event.kind == "started"]
            nodes = {event.data.get("node") for event in events if event.kind == "node"}
            if not starts or "split" not in nodes:
                continue
            await asyncio.sleep(1.0)
            host, _, pid = str(starts[-1].data["worker"]).rpartition(":")
            if host != socket.gethostname():
                say(f"the worker is on {host}, not here: it is left alone")
                return False
            if (await client.store.get(run_id)).state != "running":
                return False
            os.kill(int(pid), signal.SIGKILL)
            say(f"[red]kill -9 {pid}[/]: the worker is gone in the middle of model calls")
            return True
        await asyncio.sleep(0.1)
    return False


# ── messages ──────────────────────────────────────────────────────────────────────────────────


async def sort_messages(client: Client, tally: Tally, *, fast: bool) -> None:
    """Language, intent, sentiment, priority; then a cited answer, or a ticket for a person."""
    shown = MESSAGES[:1] if fast else MESSAGES
    texts = {}
    for text in shown:
        run = await client.start("ticket_triage", {"message": text})
        texts[run.id] = text
        tally.add("messages", run.id)
    outcomes: list[str] = []
    for done in asyncio.as_completed([client.wait(each, timeout=DEADLINE) for each in texts]):
        run = await done
        result = run.result or {}
        outcomes.append(result.get("outcome", run.state))
        _print_triage(texts[run.id], run, result)
    answered = outcomes.count("answered")
    tally.notes["messages"] = (
        f"{answered} answered with citations, {len(outcomes) - answered} routed"
    )


def _print_triage(text: str, run: Run, result: dict[str, Any]) -> None:
    labels = " · ".join(
        f"{name} {result[name]['label'] or 'none'}"
        for name in ("intent", "sentiment", "priority")
        if name in result
    )
    say(f"“{escape(text)}”")
    outcome = result.get("outcome", run.state)
    console.print(f"          {result.get('language', '')} · {labels} → [bold]{outcome}[/]")
    if result.get("answer"):
        _print_sentences(result["answer"]["sentences"])
    elif result.get("ticket"):
        console.print(f"          ticket {result['ticket']}: {escape(result['reason'])}")


def _print_sentences(sentences: Sequence[dict[str, Any]]) -> None:
    for sentence in sentences:
        console.print(f"          {escape(sentence['text'])}")
        _print_citations(sentence["citations"])


def _print_citations(citations: Sequence[dict[str, Any]]) -> None:
    for citation in citations:
        quote = " ".join(citation["quote"].split())
        place = f"{citation['document']} {citation['start']}-{citation['end']}"
        console.print(f"            [green]“{escape(quote)}”[/] [dim]{escape(place)}[/]")


# ── chat ──────────────────────────────────────────────────────────────────────────────────────


async def talk(client: Client, tally: Tally, *, fast: bool) -> None:
    """One thread in English and one in Portuguese, side by side."""
    chats = [(who, texts[:1]) for who, texts in CHATS] if fast else CHATS
    done = await asyncio.gather(*(_chat(client, tally, who, texts) for who, texts in chats))
    replies = [reply for thread in done for reply in thread]
    cited = sum(bool(reply.data.get("citations")) for reply in replies)
    tally.notes["chat"] = f"{len(replies)} replies in two languages, {cited} with citations"


async def _chat(
    client: Client, tally: Tally, customer: str, texts: Sequence[str]
) -> list[ThreadMessage]:
    thread = await client.open_thread("support_desk", customer=customer)
    replies = []
    for text in texts:
        accepted = await client.say(thread.id, text)
        tally.add("chat", accepted.id)
        await client.wait(accepted.id, timeout=DEADLINE)
        said = await client.threads.messages(thread.id)
        for reply in said:
            if reply.run_id == accepted.id and reply.role == "assistant":
                say(f"[cyan]{customer}:[/] {escape(text)}")
                console.print(f"          [bold]bot:[/] {escape(reply.text)}")
                _print_citations(reply.data.get("citations", []))
                replies.append(reply)
    return replies


# ── other doors ───────────────────────────────────────────────────────────────────────────────


async def open_other_doors(client: Client, tally: Tally) -> None:
    """A schedule that is due now, and a message that any Celery client could have sent."""
    store = ScheduleStore(client.pool, client.registry, tenant=client.tenant)
    name = f"digest-{started:.0f}"
    await store.add(name, "daily_digest", cron="0 8 * * *", time_zone="America/Sao_Paulo")
    # The demo does not wait for eight o'clock.
    async with client.pool.connection() as connection:
        await connection.execute(
            "update rotina.schedule set next_fire_at = now() where name = %s", (name,)
        )
    today = datetime.now(UTC).date().isoformat()
    app = Celery(broker=load_settings().require_redis_url())
    app.send_task(
        "rotina.start",
        kwargs={
            "workflow": "daily_digest",
            "input": {"day": today, "language": "pt"},
            "key": f"queue-{started:.0f}",
        },
        queue="io",
    )
    app.close()
    fired = await _fired(store, name)
    tally.add("schedule", fired)
    queued = await _queued(client, f"queue-{started:.0f}")
    tally.add("queue", queued)
    for what, run_id in (("schedule", fired), ("queue", queued)):
        run = await client.wait(run_id, timeout=DEADLINE)
        result = run.result or {}
        figures = result.get("figures") or [run.state]
        tally.notes[what] = f"digest of {result.get('day')}: {len(figures)} figures"
        say(f"{what} started run {run.id}: {escape(' · '.join(figures))}")
        _print_sentences((result.get("tickets") or {}).get("sentences", []))
    await store.remove(name)


async def _fired(store: ScheduleStore, name: str) -> UUID:
    while True:
        for fire in await store.fires(name):
            if fire.run_id is not None:
                return fire.run_id
        await asyncio.sleep(0.2)


async def _queued(client: Client, key: str) -> UUID:
    while True:
        for run in await client.store.list_runs(workflow="daily_digest"):
            if run.idempotency_key == key:
                return run.id
        await asyncio.sleep(0.2)
