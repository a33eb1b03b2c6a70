"""`make demo`: the whole of Rotina on real input, with a worker killed in the middle.

Starts everything embedded; reads documents with `invoice_intake` and kills the worker that drives
them with -9; loads a bilingual help centre; sorts messages with `ticket_triage`; holds a chat in
both languages; fires a schedule and sends a queue message; prints what it all came to.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import chapters
from chapters import Tally, say

from rotina.cli.tables import console
from rotina.embedded.lock import holder
from rotina.settings import load_settings
from rotina.worker import Client

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = PROJECT / "samples" / "documents"
SHOWN = ("invoice-harbor-lights.pdf", "nota-fiscal-padaria.pdf", "pedido-de-compra.eml")


async def demonstrate(paths: Sequence[Path], *, fast: bool) -> bool:
    """Every chapter in turn; True when each run ended as it should."""
    tally = Tally()
    async with Client.open(load_settings(PROJECT)) as client:
        await chapters.load_help_center(client, tally, PROJECT / "samples" / "help_center")
        # The model serves several requests at once: documents, messages and chat share it.
        reading = asyncio.create_task(chapters.read_documents(client, tally, paths))
        await asyncio.gather(
            reading,
            chapters.sort_messages(client, tally, fast=fast),
            chapters.talk(client, tally, fast=fast),
        )
        await chapters.open_other_doors(client, tally)
        await tally.print(client)
    return tally.good


def main() -> int:
    """Start the services, demonstrate, stop them again unless `--keep`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="your own documents instead")
    parser.add_argument("--fast", action="store_true", help="one of each only")
    parser.add_argument("--keep", action="store_true", help="leave the services running")
    options = parser.parse_args()
    shown = SHOWN[:1] if options.fast else SHOWN
    paths = options.files or [DOCUMENTS / name for name in shown]
    running = holder(load_settings(PROJECT).data_path)
    if running is not None:
        say(f"using what runs already (process {running.pid})")
    else:
        say("starting PostgreSQL, Valkey, the models, workers, beat and server …")
        if _rotina("up", "--detach") != 0:
            return 1
    try:
        good = asyncio.run(demonstrate(paths, fast=options.fast))
        console.rule()
        say("look closer with `rotina up`, `rotina runs`, `rotina show RUN`, `rotina chat support`")
        return 0 if good else 1
    finally:
        if running is None and not options.keep:
            _rotina("down")


def _rotina(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "rotina", *arguments], cwd=PROJECT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
