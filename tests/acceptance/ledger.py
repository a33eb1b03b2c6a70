"""What the ledger and the register say after a test, and whether it is right."""

from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack

DOCUMENTS = 20
APPROVE_ABOVE = 10_000
"""The workflow's own limit: above it a person decides."""


def rows(url: str, query: str) -> list[DictRow]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def write_documents(folder: Path, count: int = DOCUMENTS) -> list[str]:
    paths = [folder / f"{index:02d}.txt" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_text(document(index))
    return [str(path) for path in paths]


def start_runs(stack: Stack, files: list[str]) -> None:
    done = stack.run("run", "invoice_intake", *files, "--detach")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(files)


def all_ended(url: str, count: int = DOCUMENTS) -> bool:
    query = "select count(*) as n from rotina.run where finished_at is not null"
    return bool(rows(url, query)[0]["n"] == count)


def check_results(url: str, count: int = DOCUMENTS) -> None:
    """Every document once: right result, one terminal event, one row in the register."""
    found = rows(url, "select id, state, result, error, attempts from rotina.run")
    assert Counter(row["state"] for row in found) == {"succeeded": count}, [
        row["error"] for row in found if row["error"]
    ]
    numbers = sorted(row["result"]["extraction"]["data"]["number"] for row in found)
    assert numbers == [f"INV-{index:04d}" for index in range(count)]
    for row in found:
        check_result(row["result"])
    ends = rows(url, "select run_id from rotina.run_event where kind in ('succeeded', 'failed')")
    assert sorted(row["run_id"] for row in ends) == sorted(row["id"] for row in found)
    register = rows(url, "select run_id, number, total, status from invoice_register")
    assert sorted(row["number"] for row in register) == numbers
    for row in register:
        assert row["status"] == ("approved" if row["total"] > APPROVE_ABOVE else "proven"), row
    effects = rows(url, "select run_id from rotina.effect")
    assert len(effects) == count


def check_result(result: dict[str, Any]) -> None:
    index = int(result["extraction"]["data"]["number"][-4:])
    text = result["extraction"]["document"]["text"]
    data = result["extraction"]["data"]
    assert data["total"] == (index + 1) * (10 + index + 0.5)
    assert data["lines"][0]["quantity"] == index + 1
    assert result["extraction"]["problems"] == []
    for field in result["extraction"]["fields"]:
        assert field["proven"], field
        assert text[field["start"] : field["end"]] == field["quote"]
