"""A run becomes a pytest case, which needs neither database nor model."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.ledger import rows, start_runs, write_documents
from tests.acceptance.stack import PROJECT, Stack


def test_a_run_is_replayed_and_becomes_a_case(
    scripted: Stack, database_url: str, tmp_path: Path
) -> None:
    scripted.worker()
    start_runs(scripted, write_documents(tmp_path, 1))
    ended = "select id from rotina.run where state = 'succeeded'"
    scripted.wait_for("the run to end", lambda: len(rows(database_url, ended)) == 1)
    run_id = str(rows(database_url, ended)[0]["id"])
    scripted.kill("worker-io")
    scripted.kill("model")

    replayed = scripted.run("replay", run_id)
    assert (replayed.returncode, replayed.stderr) == (0, ""), replayed.stdout
    assert replayed.stdout.startswith("the same: ")
    assert json.loads(scripted.run("replay", run_id, "--json").stdout)["divergence"] is None

    folder = tmp_path / "replays"
    made = scripted.run("test", "record", run_id, "--to", str(folder))
    assert made.returncode == 0, made.stderr
    case = Path(made.stdout.strip())
    assert _pytest(case).returncode == 0

    record = case.with_suffix(".json")
    changed = json.loads(record.read_text(encoding="utf-8"))
    changed["run"]["result"] = {**changed["run"]["result"], "invented": 1}
    record.write_text(json.dumps(changed), encoding="utf-8")
    failed = _pytest(case)
    assert failed.returncode == 1
    assert "invoice_intake: another result" in failed.stdout
    assert '- "invented": 1' in failed.stdout

    record.write_text("{}", encoding="utf-8")
    assert "make it anew with `rotina test record`" in _pytest(case).stdout
    unknown = scripted.run("replay", "0" * 8)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("RunNotFoundError: ")


def _pytest(case: Path) -> subprocess.CompletedProcess[str]:
    """As a developer runs it, with nothing of ours in the environment but the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROTINA_")}
    for name in ("DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        kept.pop(name, None)
    kept |= {"PYTHONPATH": str(PROJECT), "ROTINA_WORKFLOWS": '["workflows"]'}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(case)],
        cwd=case.parent, env=kept, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
