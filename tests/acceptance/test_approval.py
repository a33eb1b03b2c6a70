"""An invoice above the limit waits for a person, through crashes, and is registered once."""

import json
from pathlib import Path

from tests.acceptance.ledger import rows
from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack


def test_a_large_invoice_waits_for_a_person(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "large.txt"
    path.write_text(document(3))
    scripted.worker()
    limit = json.dumps({"approve_above": "20"})
    ran = scripted.run("run", "invoice_intake", str(path), "--json", "--input", limit)
    assert ran.returncode == 0, ran.stderr
    run = json.loads(ran.stdout)
    assert run["state"] == "waiting"
    assert rows(database_url, "select 1 from invoice_register") == []

    # Nobody has to be alive while it waits.
    scripted.kill("worker-io")
    listed = scripted.run("reviews", "--assignee", "finance", "--json")
    [asked] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert asked["run_id"] == run["id"]
    assert asked["data"]["total"] == 54.0
    assert "finance" in scripted.run("reviews").stdout

    refused = scripted.run("answer", asked["id"], '{"approve": "perhaps"}')
    assert refused.returncode == 1
    assert "'perhaps' is not of type 'boolean'" in refused.stderr
    decision = '{"approve": true, "comment": "combinado"}'
    assert scripted.run("answer", asked["id"][:30], decision, "--by", "ana").returncode == 0
    late = scripted.run("answer", asked["id"], '{"approve": false}', "--by", "bia")
    assert late.returncode == 1
    assert "answered by 'ana'" in late.stderr

    scripted.worker()
    query = "select state, result->>'status' as status, result->>'comment' as note from rotina.run"
    scripted.wait_for(
        "the run to end", lambda: rows(database_url, query)[0]["state"] == "succeeded"
    )
    assert rows(database_url, query)[0]["status"] == "approved"
    assert rows(database_url, query)[0]["note"] == "combinado"
    registered = rows(database_url, "select status from invoice_register")
    assert [row["status"] for row in registered] == ["approved"]
    calls = rows(database_url, "select count(*) as n from rotina.model_call")
    assert calls[0]["n"] == 1, "what came before the question was not done again"
