"""A client as a process: it has runs of `paying` accepted, several at once, each until it is a yes.

python -m tests.chaos.starting RUNS RECEIVER
"""

import asyncio
import sys

import psycopg

from rotina import Rotina
from rotina.errors import RotinaError

AT_ONCE = 8


async def accept(rotina: Rotina, number: int, url: str, slots: asyncio.Semaphore) -> None:
    """Ask under the same key until the answer is yes, and say so."""
    async with slots:
        while True:
            try:
                value = {"number": number, "url": url}
                accepted = await rotina.start("paying", value, key=str(number))
            except (RotinaError, psycopg.Error) as error:
                print(f"no {type(error).__name__} {number}", flush=True)
                await asyncio.sleep(0.2)
            else:
                print(f"yes {accepted.id} {number}", flush=True)
                return


async def main(runs: int, url: str) -> None:
    """Accept, and stay until killed."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with Rotina() as rotina:
        await asyncio.gather(*(accept(rotina, number, url, slots) for number in range(runs)))
    print("done", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
