"""Two workers, 200 runs, a person who decides, a kill -9 every second or so.

CHAOS_SEED=7 repeats the moments and the victims of a run of it.
"""

import os
import random
import time
from pathlib import Path

import pytest

from rotina import Rotina
from tests.acceptance.ledger import all_ended, check_results, rows, start_runs, write_documents
from tests.acceptance.stack import Stack

DOCUMENTS = 200


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_all_the_time(
    scripted: Stack, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 10_000)))
    moments = random.Random(seed)
    scripted.environment = {
        **scripted.environment,
        "ROTINA_IO_CONCURRENCY": "10",
        "ROTINA_MAX_ATTEMPTS": "100",
    }
    scripted.rotina("beat", "beat")
    workers = ("worker-a", "worker-b")
    for name in workers:
        scripted.worker(name)
    start_runs(scripted, write_documents(tmp_path, DOCUMENTS))
    kills = 0
    for name, value in scripted.environment.items():
        monkeypatch.setenv(name, value)
    with Rotina.sync() as rotina:
        while not all_ended(database_url, DOCUMENTS):
            time.sleep(moments.uniform(0.2, 2.0))
            victim = moments.choice(workers)
            scripted.kill(victim)
            for asked in rotina.reviews(assignee="finance"):
                rotina.answer(asked.id, {"approve": True}, by="chaos")
            scripted.worker(victim)
            kills += 1
    check_results(database_url, DOCUMENTS)
    attempts = sum(row["attempts"] for row in rows(database_url, "select attempts from rotina.run"))
    print(f"seed {seed}: {DOCUMENTS} runs, {kills} kills, {attempts} attempts, 0 lost, 0 doubled")
