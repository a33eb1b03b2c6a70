"""`rotina chat`: talk to a support bot on the terminal."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from rotina.cli.waiting import warn_without_worker
from rotina.errors import InvalidInputError, RunFailedError, UnknownWorkflowError
from rotina.settings import load_settings

if TYPE_CHECKING:
    from rotina.runs import Registry, Thread, ThreadMessage
    from rotina.worker import Client


@click.command()
@click.argument("workflow")
@click.option("--thread", "thread_id", type=click.UUID, help="Continue this thread.")
@click.option("--customer", help="Who is talking, for a new thread.")
@click.option("--message", "texts", multiple=True, help="Say this and end; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a reply.")
@click.option("--timeout", type=float, help="Seconds to wait for each reply.")
def chat(
    workflow: str,
    thread_id: UUID | None,
    customer: str | None,
    texts: tuple[str, ...],
    as_json: bool,
    timeout: float | None,
) -> None:
    """Talk to WORKFLOW (its name, or how the name begins) in a durable thread.

    Without --message it reads lines until the end of the input. Every reply names its sources.
    """
    if thread_id is not None and customer is not None:
        raise click.UsageError("--customer is for a new thread; leave it out with --thread")
    asyncio.run(_chat(workflow, thread_id, customer, texts, as_json, timeout))


async def _chat(
    workflow: str,
    thread_id: UUID | None,
    customer: str | None,
    texts: tuple[str, ...],
    as_json: bool,
    timeout: float | None,
) -> None:
    from rotina.worker import Client

    async with Client.open(load_settings()) as client:
        name = _conversational(client.registry, workflow)
        if thread_id is None:
            thread = await client.open_thread(name, customer=customer)
        else:
            thread = await _continued(client, thread_id, name)
        if not as_json:
            click.echo(f"thread {thread.id}", err=True)
        async for text in _lines(texts):
            reply = await _said(client, thread, text, timeout)
            _print(reply, as_json=as_json)


def _conversational(registry: "Registry", name: str) -> str:
    """The workflow of that name, or the only one that converses and begins with it."""
    from rotina.runs import is_conversational

    if name in registry:
        return name
    known = [each for each in registry if is_conversational(registry[each])]
    found = [each for each in known if each.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(sorted(known)) or "none"
        raise UnknownWorkflowError(
            f"{'Several workflows begin' if found else 'No workflow begins'} with {name!r} and "
            f"hold a conversation. Those that do: {listed}."
        )
    return found[0]


async def _continued(client: "Client", thread_id: UUID, workflow: str) -> "Thread":
    thread = await client.threads.get(thread_id)
    if thread.workflow != workflow:
        raise InvalidInputError(
            f"Thread {thread_id} is a conversation with {thread.workflow!r}, not {workflow!r}: "
            f"run `rotina chat {thread.workflow} --thread {thread_id}`."
        )
    return thread


async def _lines(texts: tuple[str, ...]) -> AsyncIterator[str]:
    """The given messages, else the lines that are typed or piped in."""
    for text in texts:
        yield text
    while not texts:
        if sys.stdin.isatty():
            click.echo("you> ", nl=False)
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        if line.strip():
            yield line.strip()


async def _said(
    client: "Client", thread: "Thread", text: str, timeout: float | None
) -> "ThreadMessage":
    """The reply to a message. Raises `RunFailedError`."""
    accepted = await client.say(thread.id, text)
    told = asyncio.create_task(warn_without_worker(client, "messages"))
    try:
        run = await client.wait(accepted.id, timeout=timeout)
    except TimeoutError:
        raise click.ClickException(
            f"no reply within {timeout:g} s. The message is safe and will be answered: look with "
            f"`rotina show {accepted.id}`, go on with `--thread {thread.id}`."
        ) from None
    finally:
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)
    messages = await client.threads.messages(thread.id)
    for message in messages:
        if message.run_id == run.id and message.role == "assistant":
            return message
    error = run.error or {}
    raise RunFailedError(
        f"Run {run.id} ended {run.state} without a reply ({error.get('type')}: "
        f"{error.get('message')}); `rotina show {run.id}` tells more."
    )


def _print(reply: "ThreadMessage", *, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = reply.model_dump(mode="json", exclude={"id"})
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    click.echo(reply.text)
    for number, citation in enumerate(reply.data.get("citations", []), start=1):
        page = f", page {citation['page']}" if citation.get("page") else ""
        place = f"{citation['document']}{page}, {citation['start']}-{citation['end']}"
        quote = " ".join(citation["quote"].split())
        click.echo(f"  [{number}] “{quote}”  {place}")
