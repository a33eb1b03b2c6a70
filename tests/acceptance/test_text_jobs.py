"""The text jobs through the command line, with a real worker and a scripted model."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack
from tests.scripted_model import Answer, Request

pytestmark = pytest.mark.usefixtures("replayed")

LAST = "Filial 99"
REPORT = "\n\n".join(
    f"Filial {n}: vendeu {1000 + n} unidades em março{', como nos meses anteriores' * 12}."
    for n in range(100)
)
WORDS = {"Olá": "Hello", "seu pedido": "your order", "chega": "arrives", "em": "in", "dias": "days"}
SLUG = """\
Here it is:
```python
import re


def slug(title: str) -> str:
    return {body}
```
"""
WRONG = SLUG.format(body="title.lower()")
RIGHT = SLUG.format(body='re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")')
TESTS = 'from solution import slug\n\n\ndef test_slug():\n    assert slug("A b!") == "a-b"\n'


async def text_model(request: Request) -> Answer:
    """A model that does its work from what it is shown; some answers are wrong at first."""
    if LAST in request.last_message:
        await asyncio.sleep(3)
    return _answer(request)


def _answer(request: Request) -> Answer:
    named = (request.schema or {}).get("properties", {})
    task = request.last_message
    if "translation" in named:
        return _translation(request)
    if "title" in named:
        return _draft(task)
    if "sentences" in named:
        proof = named["sentences"]["items"]["properties"]
        return {"sentences": _notes(task) if "quote" in proof else _merged(task)}
    if "cases" in named:
        return {
            "cases": [{"call": "slug('A b!')", "equals": "'a-b'"}, {"call": ")", "equals": "1"}]
        }
    if "poem" in request.prompt:
        return "Roses are red."
    return RIGHT if "did not pass" in task and "impossible" not in request.prompt else WRONG


def _notes(task: str) -> list[dict[str, Any]]:
    text = task.partition("\n\nSummary in ")[0]
    said = [line.strip() for line in text.splitlines() if line.strip()]
    notes = [{"quote": " ".join(line.split()[:5]), "text": line} for line in said[:2]]
    return [*notes, {"quote": "never", "text": "Profit grew by 987 %."}]


def _merged(task: str) -> list[dict[str, Any]]:
    notes = re.findall(r"^\[(\d+)\] (.*)$", task, re.MULTILINE)
    wanted = int(found[1]) if (found := re.search(r"at most (\d+) sentences", task)) else 1
    return [{"notes": [int(number)], "text": text} for number, text in notes[:wanted]]


def _translation(request: Request) -> Answer:
    users = [m["content"] for m in request.body["messages"] if m["role"] == "user"]
    corrected = users[-1].startswith("Your translation has mistakes")
    text = users[-2] if corrected else users[-1]
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return {"translation": text if corrected else text.replace("7", "9")}


def _draft(task: str) -> Answer:
    wrong = "Your draft has mistakes" not in task
    percent = "30%" if wrong else "20%"
    return {"title": "Sale", "text": f"Dear customers, all our lamps are {percent} off this week."}


@pytest.fixture
def desk(processes: Stack) -> Stack:
    """A worker and a model whose context is small."""
    url = processes.model("tests.acceptance.test_text_jobs:text_model", delay=0.1)
    deployment = {"model": "scripted", "base_url": url, "context": 3000}
    processes.environment = {
        **processes.environment,
        "ROTINA_DEPLOYMENTS": json.dumps({"one": deployment}),
        "ROTINA_ROUTES": json.dumps({"smart": {"deployments": ["one"]}}),
        "ROTINA_IO_CONCURRENCY": "2",
    }
    processes.worker()
    return processes


def job(stack: Stack, workflow: str, *files: Path, **value: Any) -> dict[str, Any]:
    """The run, as `rotina run --json` prints it."""
    names = [str(path) for path in files]
    done = stack.run("run", workflow, *names, "--input", json.dumps(value), "--json")
    assert done.stdout, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def result(stack: Stack, workflow: str, *files: Path, **value: Any) -> dict[str, Any]:
    run = job(stack, workflow, *files, **value)
    assert run["state"] == "succeeded", run
    (found,) = run["result"].values()
    assert isinstance(found, dict)
    return found


def test_a_text_longer_than_the_context_is_summarised_across_a_kill(
    desk: Stack, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "relatorio.txt"
    path.write_text(REPORT)
    started = desk.run(
        "run", "summarize", str(path), "--input", '{"sentences": 4}', "--detach", "--key", "r"
    )
    assert started.returncode == 0, started.stderr
    desk.wait_for("some answers to be kept", lambda: _answers(database_url)[0] >= 3)
    desk.kill("worker-io")
    kept, given = _answers(database_url)
    desk.rotina("beat", "beat")
    desk.worker()
    run = json.loads(
        desk.run(
            *("run", "summarize", str(path), "--input", '{"sentences": 4}', "--key", "r", "--json")
        ).stdout
    )
    assert (run["state"], run["attempts"]) == ("succeeded", 2), run
    summary = run["result"]["summary"]
    assert summary["parts"] > 3
    assert (summary["language"], summary["problems"]) == ("pt", [])
    assert 1 <= len(summary["sentences"]) <= 4
    assert "987" not in summary["text"]
    for sentence in summary["sentences"]:
        assert sentence["supported"]
        for place in sentence["evidence"]:
            assert summary["source"][place["start"] : place["end"]] == place["quote"]
    nodes = rows(database_url, "select node, count(*) as n from rotina.model_call group by node")
    asked = {row["node"]: row["n"] for row in nodes}
    again = given - kept
    assert asked["note"] == summary["parts"] + again, "what was kept is not asked for again"
    assert asked["condense"] > 1, "notes were merged in more than one step"


def _answers(url: str) -> tuple[int, int]:
    """Answers of the model that the run has on record, and answers in all."""
    (found,) = rows(
        url,
        "select (select count(*) from rotina.recorded where kind = 'chat') as kept,"
        " (select count(*) from rotina.model_call) as given",
    )
    return found["kept"], found["given"]


def test_what_the_text_does_not_state_is_flagged(desk: Stack) -> None:
    summary = result(desk, "summarize", text="Sales rose by 12 % in May.\nCosts fell.", sentences=3)
    assert summary["text"] == "Sales rose by 12 % in May. Costs fell."
    assert summary["flagged"] == [{"text": "Profit grew by 987 %.", "missing": ["987"]}]


def test_a_translation_is_checked_and_repaired_once(desk: Stack) -> None:
    text = "Olá {nome}, seu pedido chega em 7 dias.\n\n```\nseu pedido\n```\n"
    found = result(desk, "translate", text=text, to="en")
    assert found["text"] == "Hello {nome}, your order arrives in 7 days.\n\n```\nseu pedido\n```\n"
    assert (found["problems"], found["repaired"], found["parts"]) == ([], 1, 1)
    assert (found["source_language"], found["language"]) == ("pt", "en")
    same = result(desk, "translate", text="Your order arrives in seven days.", to="en")
    assert (same["unchanged"], same["parts"]) == (True, 0)
    assert same["text"] == "Your order arrives in seven days."


def test_a_draft_says_what_the_briefing_says(desk: Stack) -> None:
    draft = result(desk, "draft", text="Lamps 20% off this week.", kind="e-mail", audience="all")
    assert draft["text"] == "Dear customers, all our lamps are 20% off this week."
    assert (draft["problems"], draft["repaired"], draft["language"]) == ([], True, "en")
    told = result(desk, "draft", text="Lamps 20% off.", must_mention=["free tea"])
    assert [(each["kind"], each["what"]) for each in told["problems"]] == [("missing", "free tea")]


def test_code_is_repaired_until_it_passes_its_tests(desk: Stack) -> None:
    coding = result(desk, "write_code", task="Write slug(title).", tests=TESTS)
    assert (coding["passed"], coding["rounds"], coding["tests_by"]) == (True, 2, "caller")
    assert coding["code"].startswith("import re")
    assert coding["attempts"][0]["outcome"] == "failed"
    own = result(desk, "write_code", task="Escreva slug(title).")
    assert (own["passed"], own["rounds"], own["tests_by"]) == (True, 2, "model")
    assert own["tests"].count("def test_") == 1, "a case that is no Python is left out"


def test_code_that_never_passes_is_a_result_too(desk: Stack) -> None:
    coding = result(desk, "write_code", task="Write the impossible slug(title).", tests=TESTS)
    assert (coding["passed"], coding["outcome"], coding["rounds"]) == (False, "failed", 3)
    assert "title.lower()" in coding["code"]
    assert "assert slug" in coding["output"]
    none = result(desk, "write_code", task="Write a poem.", tests=TESTS)
    assert (none["passed"], none["outcome"], none["code"]) == (False, "no_code", "")


def test_tests_that_are_no_python_end_the_run_with_the_remedy(desk: Stack) -> None:
    run = job(desk, "write_code", task="Write slug(title).", tests="def (")
    assert run["state"] == "failed"
    assert "correct or omit them" in run["error"]["message"]
