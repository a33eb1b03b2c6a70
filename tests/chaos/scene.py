"""A scene of a chaos test: workers, a client that has documents accepted, and the reckoning."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.acceptance.ledger import all_ended, check_results, rows
from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack


@dataclass
class Scene:
    """What works, on which database, and the random source that decides the moments."""

    stack: Stack
    url: str
    folder: Path
    seed: int
    moments: random.Random
    runs: int = 0
    clients: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def change(self, **environment: str) -> None:
        """Give what is started from now on another environment."""
        self.stack.environment = {**self.stack.environment, **environment}

    def work(self, *workers: str, concurrency: int, delay: float) -> None:
        """Start beat, io workers and their model, which takes `delay` seconds for a document."""
        url = self.stack.model("tests.acceptance.scripts:invoice", delay=delay)
        self.change(
            OPENAI_BASE_URL=url,
            ROTINA_MODEL="scripted",
            ROTINA_IO_CONCURRENCY=str(concurrency),
            ROTINA_MAX_ATTEMPTS="100",
        )
        self.stack.rotina("beat", "beat")
        self.start_workers(*workers)

    def start_workers(self, *names: str) -> None:
        """Start them side by side and wait until all consume."""
        for name in names:
            self.stack.rotina(name, "worker", "io")
        self.stack.wait_for(
            "the workers to be ready", lambda: all(" ready." in self.stack.log(n) for n in names)
        )

    def accept(self, runs: int, pause: float) -> None:
        """Let a client have `runs` more documents accepted, one every `pause` seconds."""
        name = f"client-{len(self.clients)}"
        documents = self.folder / name
        documents.mkdir()
        for index in range(self.runs, self.runs + runs):
            (documents / f"{index:02d}.txt").write_text(document(index))
        self.runs += runs
        self.clients.append(name)
        seen = len(self.accepted())
        self.stack.start(name, "-m", "tests.chaos.accepting", str(documents), str(pause))
        self.stack.wait_for("the first yes", lambda: len(self.accepted()) > seen)

    def accepted(self) -> list[UUID]:
        """The runs that the clients were told are safe."""
        return [UUID(line.split()[1]) for line in self._answers("yes ")]

    def refused(self) -> list[str]:
        """The errors that the clients were told instead."""
        return [line.split()[1] for line in self._answers("no ") if len(line.split()) == 3]

    def all_accepted(self) -> bool:
        """Whether no client has anything left."""
        return len(self._answers("done")) == len(self.clients)

    def pause(self, least: float, most: float) -> None:
        """Let some time pass."""
        time.sleep(self.moments.uniform(least, most))

    def finish(self, faults: int | Callable[[], int], timeout: float = 300) -> None:
        """Wait for the end of every run: each accepted one is there, and ended once."""
        self.stack.wait_for("all to be accepted", self.all_accepted, timeout)
        self.stack.wait_for("all to end", lambda: all_ended(self.url, self.runs), timeout)
        found = rows(self.url, "select id, attempts from rotina.run")
        assert sorted(row["id"] for row in found) == sorted(self.accepted())
        check_results(self.url, self.runs)
        attempts = sum(row["attempts"] for row in found)
        count = faults if isinstance(faults, int) else faults()
        print(
            f"seed {self.seed}: {self.runs} runs, {count} faults, "
            f"{time.monotonic() - self.began:.0f} s, {attempts} attempts, "
            f"{len(self.refused())} refusals, 0 lost, 0 doubled"
        )

    def told(self) -> str:
        """All that the clients wrote."""
        return "".join(self.stack.log(name) for name in self.clients)

    def _answers(self, beginning: str) -> list[str]:
        """Whole lines only: the last one may still be under way."""
        logs = [self.stack.log(name).split("\n")[:-1] for name in self.clients]
        return [line for lines in logs for line in lines if line.startswith(beginning)]
