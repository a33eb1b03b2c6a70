"""A client as a process: it has the documents of a folder accepted, one after the other.

Each answer is a line: `yes ID NAME` or `no ERROR NAME`. What was refused is asked again under the
same key, so a yes that was lost on the way is no second run. At the end it says `done` and stays.

    python -m tests.chaos.accepting FOLDER PAUSE
"""

import asyncio
import sys
from collections import deque
from pathlib import Path

import psycopg

from rotina import Rotina
from rotina.errors import RotinaError


async def accept_all(waiting: deque[Path], pause: float) -> None:
    """Until every document is accepted; after an error with a new connection."""
    while waiting:
        try:
            async with Rotina() as rotina:
                while waiting:
                    await _accept(rotina, waiting[0])
                    waiting.popleft()
                    await asyncio.sleep(pause)
        except (RotinaError, psycopg.Error) as error:
            print(f"no {type(error).__name__} {waiting[0].name}", flush=True)
            await asyncio.sleep(0.2)


async def _accept(rotina: Rotina, path: Path) -> None:
    accepted = await rotina.start("invoice_intake", key=path.name, file=path)
    print(f"yes {accepted.id} {path.name}", flush=True)


async def main(folder: Path, pause: float) -> None:
    """Accept, and stay until killed."""
    await accept_all(deque(sorted(folder.iterdir())), pause)
    print("done", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
