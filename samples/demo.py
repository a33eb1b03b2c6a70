"""`make demo`: real documents through the whole path, with a worker killed in the middle.

Starts everything embedded, runs `invoice_intake` over the sample documents, kills the worker that
drives them with -9, and prints what each document says with the characters that prove it.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from rotina.cli.tables import console, extraction_of, print_run
from rotina.embedded.lock import holder
from rotina.runs import TERMINAL, ModelCallRow, Run, Upload
from rotina.settings import load_settings
from rotina.worker import Client

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = PROJECT / "samples" / "documents"
SHOWN = ("invoice-harbor-lights.pdf", "nota-fiscal-padaria.pdf", "pedido-de-compra.eml")
DEADLINE = 900.0

started = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the start."""
    console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}")


async def demonstrate(paths: Sequence[Path]) -> bool:
    """Run the documents, kill their worker, print the results; True when all succeeded."""
    async with Client.open(load_settings(PROJECT)) as client:
        accepted = {}
        for path in paths:
            run = await client.start("invoice_intake", {}, upload=Upload(path.name, _read(path)))
            accepted[run.id] = path
            say(f"accepted [bold]{path.name}[/] as run {run.id}")
        killed = await _kill_the_worker(client, list(accepted))
        waiting = [asyncio.create_task(_finished(client, run_id)) for run_id in accepted]
        runs = []
        for done in asyncio.as_completed(waiting):
            run, calls = await done
            print_run(run, title=accepted[run.id].name)
            _print_spent(run, calls)
            runs.append(run)
        timelines = [await client.store.events(run.id) for run in runs]
        ends = sum(event.kind in TERMINAL for events in timelines for event in events)
        _summarise(runs, ends, killed=killed)
    return all(run.state == "succeeded" for run in runs)


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def _kill_the_worker(client: Client, run_ids: list[UUID]) -> bool:
    """Wait until a worker asks the model for the first document, then kill -9 its process.

    Only a worker of this machine is killed; False when there was none to kill.
    """
    say("waiting for a worker to be in the middle of it …")
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        for run_id in run_ids:
            events = await client.store.events(run_id)
            starts = [event for event in events if event.kind == "started"]
            nodes = {event.data.get("node") for event in events if event.kind == "node"}
            if starts and "split" in nodes:
                await asyncio.sleep(1.0)
                host, _, pid = str(starts[-1].data["worker"]).rpartition(":")
                if host != socket.gethostname():
                    say(f"the worker is on {host}, not here: it is left alone")
                    return False
                if (await client.store.get(run_id)).state != "running":
                    return False
                os.kill(int(pid), signal.SIGKILL)
                say(f"[red]kill -9 {pid}[/]: the worker is gone in the middle of a model call")
                return True
        await asyncio.sleep(0.1)
    return False


async def _finished(client: Client, run_id: UUID) -> tuple[Run, list[ModelCallRow]]:
    run = await client.wait(run_id, timeout=DEADLINE)
    return run, await client.store.model_calls(run_id)


def _print_spent(run: Run, calls: Sequence[ModelCallRow]) -> None:
    tokens = sum((call.prompt_tokens or 0) + (call.completion_tokens or 0) for call in calls)
    status = (run.result or {}).get("status", "")
    say(f"{status}: {run.seconds or 0:.1f} s, {tokens} tokens, {run.attempts} attempt(s)")


def _summarise(runs: Sequence[Run], ends: int, *, killed: bool) -> None:
    fields = [field for run in runs if (found := extraction_of(run)) for field in found.fields]
    proven = sum(field.proven for field in fields)
    good = sum(run.state == "succeeded" for run in runs)
    console.rule()
    say(
        f"[bold]{good} of {len(runs)} documents read, {proven} of {len(fields)} values proven; "
        f"{ends} ends of {len(runs)} runs{', though their worker was killed' if killed else ''}[/]"
    )
    say("look closer with `rotina up`, `rotina runs` and `rotina show RUN`")


def main() -> int:
    """Start the services, demonstrate, stop them again unless `--keep`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="your own documents instead")
    parser.add_argument("--keep", action="store_true", help="leave the services running")
    options = parser.parse_args()
    paths = options.files or [DOCUMENTS / name for name in SHOWN]
    running = holder(load_settings(PROJECT).data_path)
    if running is not None:
        say(f"using what runs already (process {running})")
    else:
        say("starting PostgreSQL, Valkey, the models, workers and beat …")
        if _rotina("up", "--detach") != 0:
            return 1
    try:
        return 0 if asyncio.run(demonstrate(paths)) else 1
    finally:
        if running is None and not options.keep:
            _rotina("down")


def _rotina(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "rotina", *arguments], cwd=PROJECT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
