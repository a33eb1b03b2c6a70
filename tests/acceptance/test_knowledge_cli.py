"""`rotina kb` with a real worker and a scripted embedding server."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.acceptance.ledger import rows
from tests.acceptance.stack import Stack
from tests.bucket_server import READER, bucket_server
from tests.mail_server import PASSWORD, USER, mail_server

LONG = [pytest.mark.slow, pytest.mark.timeout(1800)]
NOTHING = "tests.acceptance.test_knowledge_cli:plausible"


def plausible(request: object) -> None:
    """The scripted server's own answers."""


@pytest.fixture
def embedding(processes: Stack) -> Stack:
    """A stack with a collection and an embedding model; no worker yet."""
    url = processes.model(NOTHING)
    deployment = {"one": {"model": "scripted", "base_url": url}}
    processes.environment = {
        **processes.environment,
        "ROTINA_DEPLOYMENTS": json.dumps(deployment),
        "ROTINA_ROUTES": json.dumps(
            {"embed": {"deployments": ["one"]}, "better": {"deployments": ["one"]}}
        ),
    }
    done = processes.run("kb", "create", "help")
    assert done.returncode == 0, done.stderr
    return processes


def added(stack: Stack, *arguments: str) -> dict[str, Any]:
    """What became of each file, by its name."""
    done = stack.run("kb", "add", "help", *arguments, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return {Path(line["file"]).name: line for line in lines}


def states(told: dict[str, Any]) -> dict[str, str]:
    return {name: line["state"] for name, line in told.items()}


def embedded_anew(embedding: Stack, folder: Path) -> None:
    """Two embeddings, one of them dropped; and which runs have read a file."""
    embedding.worker("worker-cpu", "cpu")
    again = embedding.run("kb", "reindex", "help", "--route", "better", "--keep")
    assert "help: 3 chunks embedded by route 'better', model 'scripted'" in again.stdout
    asked = ("refunds", "--route", "embed", "--ranks", "--text", "0.5", "--section", "--json")
    done = embedding.run("kb", "search", "help", *asked, "--as-of", "2999-01-01")
    assert json.loads(done.stdout.splitlines()[0])["document"] == "refunds.md"
    questions = folder.parent / "questions.jsonl"
    line = {"question": "refunds seven days", "passage": "Refunds take seven days."}
    questions.write_text(json.dumps(line))
    report = folder.parent / "report.html"
    evaluated = ("kb", "eval", "help", str(questions), "--report")
    shown = embedding.run(*evaluated, str(report), "--chunks", "150")
    assert "Chunks of 150 characters" in report.read_text(encoding="utf-8")
    refused = embedding.run(*evaluated, str(folder.parent / "report.png"))
    assert "InvalidInputError" in refused.stderr
    assert "the collection's own beat 150 by" in shown.stdout, shown.stderr
    assert "help: 1 questions" in shown.stdout, shown.stderr
    assert "characters_iou" in shown.stdout
    dropped = embedding.run("kb", "reindex", "help", "--drop", "embed")
    assert "dropped the vectors of route 'embed'" in dropped.stdout
    read = embedding.run("kb", "cited", "help", str(folder / "refunds.md"), "--json")
    known = [json.loads(line) for line in read.stdout.splitlines()]
    assert [(each["version"], each["present"], each["quoted"]) for each in known] == [
        (3, True, False), (2, False, False), (3, True, False),
    ]  # fmt: skip


def labelled(stack: Stack, folder: Path, *metadata: str) -> None:
    """Labels are taken over though the content is the same."""
    labels = ("--access", "hr", "--valid-to", "2999-01-01")
    for _ in range(2):
        told = added(stack, str(folder), *metadata, *labels)
        assert states(told) == {"prazo.txt": "unchanged"}
    for label, expected in (("hr", "prazo.txt"), ("it", "nothing found")):
        only = ("--access", label, "--filter", "year=2025", "--vectors", "0")
        assert expected in stack.run("kb", "search", "help", "reembolso", *only).stdout


def test_a_folder_is_added_searched_and_deleted(embedding: Stack, tmp_path: Path) -> None:
    embedding.worker()
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "refunds.md").write_text("# Refunds\n\nRefunds take seven days.")
    (folder / "sub" / "prazo.txt").write_text("O reembolso leva sete dias úteis.")
    (folder / ".git" / "config.txt").write_text("hidden")
    (folder / "photo.psd").write_bytes(b"8BPS")
    (folder / "empty.txt").touch()
    first = added(embedding, str(folder), "--metadata", "year=2025", "--metadata", "team=billing")
    assert states(first) == {
        "refunds.md": "succeeded", "prazo.txt": "succeeded", "empty.txt": "failed",
    }  # fmt: skip
    assert first["empty.txt"]["error"]["type"] == "EmptyDocumentError"

    # Again: nothing new but another try of what failed; the changed file is a new version.
    (folder / "refunds.md").write_text("# Refunds\n\nRefunds take ten days.")
    (folder / "empty.txt").write_text("No longer empty.")
    metadata = ("--metadata", "year=2025", "--metadata", "team=billing")
    second = added(embedding, str(folder), *metadata)
    assert states(second) == {
        "refunds.md": "succeeded", "prazo.txt": "unchanged", "empty.txt": "succeeded",
    }  # fmt: skip
    assert second["refunds.md"]["version"] == 2
    assert second["prazo.txt"]["run"] == first["prazo.txt"]["run"]

    # Changed back: the old run's result is not what is stored any more.
    (folder / "refunds.md").write_text("# Refunds\n\nRefunds take seven days.")
    third = added(embedding, str(folder), *metadata)
    assert (third["refunds.md"]["state"], third["refunds.md"]["version"]) == ("succeeded", 3)

    done = embedding.run("kb", "search", "help", "refunds seven", "--filter", "year=2025", "--json")
    (best, *_) = (json.loads(line) for line in done.stdout.splitlines())
    assert best["document"] == "refunds.md"
    assert best["metadata"] == {"year": 2025, "team": "billing"}
    shown = embedding.run("kb", "search", "help", "reembolso", "-k", "1")
    assert "prazo.txt [0:33]" in shown.stdout
    none = embedding.run("kb", "search", "help", "refunds", "--filter", 'year="2025"')
    assert "nothing found" in none.stdout

    told = embedding.run("kb", "stats")
    assert "help: 3 documents, 3 chunks" in told.stdout
    assert "scripted, 16 dimensions; exact search" in told.stdout
    embedded_anew(embedding, folder)
    labelled(embedding, folder / "sub", *metadata)

    gone = embedding.run("kb", "delete", "help", str(folder / "refunds.md"), "--yes")
    assert gone.returncode == 0, gone.stderr
    fourth = added(embedding, str(folder / "refunds.md"), *metadata)
    assert fourth["refunds.md"]["version"] == 1, "deleted and added: it is there again"
    assert embedding.run("kb", "delete", "help", "--yes").returncode == 0
    assert "no collections yet" in embedding.run("kb", "stats").stdout


def test_people_see_progress_and_reasons(embedding: Stack, tmp_path: Path) -> None:
    embedding.worker()
    good, bad = tmp_path / "good.txt", tmp_path / "bad.pdf"
    good.write_text("Refunds take seven days.")
    bad.write_text("no PDF at all")
    absent = tmp_path / "absent.txt"
    done = embedding.run("kb", "add", "help", str(good), str(bad), str(absent))
    assert done.returncode == 1
    assert f"[1/3] {good}: 1 chunks, version 1" in done.stdout
    assert f"[2/3] {bad}: UnsupportedDocumentError" in done.stderr
    assert f"[3/3] {absent}: FileNotFoundError" in done.stderr


def test_a_worker_killed_while_it_embeds(
    processes: Stack, database_url: str, tmp_path: Path
) -> None:
    url = processes.model(NOTHING, delay=3.0)
    deployment = {"one": {"model": "scripted", "base_url": url}}
    processes.environment = {
        **processes.environment,
        "ROTINA_DEPLOYMENTS": json.dumps(deployment),
        "ROTINA_ROUTES": json.dumps({"embed": {"deployments": ["one"]}}),
    }
    processes.rotina("beat", "beat")
    processes.worker()
    assert processes.run("kb", "create", "help").returncode == 0
    path = tmp_path / "long.txt"
    path.write_text("\n\n".join(f"Paragraph {n} about refunds. " * 20 for n in range(100)))
    adding = processes.rotina("adding", "kb", "add", "help", str(path), "--json")
    chunked = "select 1 from rotina.run_event where kind = 'node' and data->>'node' = 'chunk'"
    processes.wait_for("the run to embed", lambda: bool(rows(database_url, chunked)))
    processes.kill("worker-io")
    processes.rotina("worker-io", "worker", "io")
    assert adding.wait(120) == 0, processes.log("adding")
    line = json.loads(processes.log("adding").splitlines()[-1])
    assert (line["state"], line["version"]) == ("succeeded", 1)
    (run,) = rows(database_url, "select attempts from rotina.run")
    assert run["attempts"] > 1, "the kill missed: the test shows nothing"
    stats = json.loads(processes.run("kb", "stats", "help", "--json").stdout)
    assert (stats["documents"], stats["chunks"]) == (1, line["chunks"])


@pytest.mark.parametrize(("documents", "kills"), [(50, 2), pytest.param(1000, 12, marks=LONG)])
def test_workers_killed_among_many_documents(
    embedding: Stack, database_url: str, tmp_path: Path, documents: int, kills: int
) -> None:
    """None is missing and none is there twice, whenever the worker dies."""
    for number in range(documents):
        paragraph = f"Rule {number} about refunds says that they take {number} days. "
        (tmp_path / f"{number}.txt").write_text(paragraph * (1 + number % 40))
    embedding.rotina("beat", "beat")
    embedding.worker()
    adding = embedding.rotina("adding", "kb", "add", "help", str(tmp_path), "--json")
    ended = "select 1 from rotina.run where state = 'succeeded'"
    for kill in range(kills):
        enough = documents * kill // (kills + 1)

        def some_ended(enough: int = enough) -> bool:
            return len(rows(database_url, ended)) > enough

        embedding.wait_for(f"{enough} runs to end", some_ended, timeout=300)
        embedding.kill("worker-io")
        embedding.rotina("worker-io", "worker", "io")
    assert adding.wait(600) == 0, embedding.log("adding")
    lines = embedding.log("adding").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line["state"] for line in told] == ["succeeded"] * documents
    assert {line["version"] for line in told} == {1}, "stored once each"
    stats = json.loads(embedding.run("kb", "stats", "help", "--json").stdout)
    assert (stats["documents"], stats["chunks"]) == (documents, sum(x["chunks"] for x in told))
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        # Row-level security holds the owner, too.
        connection.execute("select set_config('rotina.tenant', 'default', false)")
        counted = connection.execute(
            "select (select count(*) from rotina.chunk) as chunks, "
            "(select count(*) from rotina.embedding) as vectors, "
            "(select count(distinct (document_id, index)) from rotina.chunk) as places"
        ).fetchone()
    assert counted is not None
    assert counted["chunks"] == counted["vectors"] == counted["places"] == stats["chunks"]
    (run,) = rows(database_url, "select max(attempts) as most from rotina.run")
    assert run["most"] > 1, "the kills missed: the test shows nothing"


@pytest.mark.parametrize(("documents", "kills"), [(40, 1), pytest.param(1000, 4, marks=LONG)])
def test_a_folder_is_followed_though_workers_are_killed(
    embedding: Stack, database_url: str, tmp_path: Path, documents: int, kills: int
) -> None:
    """Resumed where it stopped: none is missing, none is there twice."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(documents):
        (folder / f"{number}.txt").write_text(f"Rule {number} says {number} days. " * 20)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    followed = embedding.run("kb", "follow", "help", "folder", str(folder))
    assert "help follows folder" in followed.stdout, followed.stderr
    embedding.rotina("beat", "beat")
    embedding.worker()  # it sweeps; syncs run on the other
    embedding.worker("worker-cpu", "cpu")
    syncing = embedding.rotina("syncing", "kb", "sync", "help", "--json")

    def stored() -> int:
        with psycopg.connect(database_url) as connection:
            connection.execute("select set_config('rotina.tenant', 'default', false)")
            row = connection.execute("select count(*) from rotina.document").fetchone()
        assert row is not None
        return int(row[0])

    for kill in range(kills):
        enough = documents * (kill + 1) // (kills + 2)
        embedding.wait_for(f"{enough} documents", lambda n=enough: stored() >= n, timeout=300)  # type: ignore[misc]
        embedding.kill("worker-cpu")
        embedding.rotina("worker-cpu", "worker", "cpu")
    assert syncing.wait(600) == 1, "a document failed"
    lines = embedding.log("syncing").splitlines()
    (told,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert told["synced"]["failed"] == 1
    assert told["errors"][0]["error"]["type"] == "CorruptDocumentError"
    stats = json.loads(embedding.run("kb", "stats", "help", "--json").stdout)
    assert stats["documents"] == documents, told
    (run,) = rows(database_url, "select attempts from rotina.run")
    assert run["attempts"] > 1, "the kills missed: the test shows nothing"
    (folder / "broken.pdf").unlink()
    (folder / "0.txt").unlink()
    again = embedding.run("kb", "sync", "help")
    assert f"0 added, 0 changed, {documents - 1} unchanged, 1 deleted, 0 failed" in again.stdout
    assert "0 failed, 0 due" in embedding.run("kb", "sources", "help").stdout
    assert embedding.run("kb", "unfollow", "help", "folder").returncode == 0
    assert "follows nothing" in embedding.run("kb", "sources", "help").stdout


def test_buckets_and_mailboxes_are_followed(embedding: Stack, tmp_path: Path) -> None:
    embedding.environment = {
        **embedding.environment,
        **READER,
        "MAILBOX_SUPPORT": PASSWORD,
        "ROTINA_SOURCE_HOSTS": '["127.0.0.1"]',
    }
    with bucket_server(tmp_path / "store") as (endpoint, bucket), mail_server() as mail:
        (bucket / "help").mkdir()
        (bucket / "help" / "prazo.txt").write_text("Prazo de sete dias.")
        mail.deliver("Devolução", "O frete é grátis.")
        s3 = ("s3", "s3://papers/help/", "--endpoint", endpoint, "--region", "sa-east-1")
        server = ("--host", "127.0.0.1", "--port", str(mail.port), "--security", "none")
        mailbox = ("mailbox", "INBOX", *server, "--user", USER, "--since", "2020-01-01")
        for followed in (s3, (*mailbox, "--password", "MAILBOX_SUPPORT", "--name", "support")):
            done = embedding.run("kb", "follow", "help", *followed)
            assert done.returncode == 0, done.stderr
        embedding.worker()
        embedding.worker("worker-cpu", "cpu")
        done = embedding.run("kb", "sync", "help")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("1 added, 0 changed, 0 unchanged, 0 deleted, 0 failed") == 2
        found = embedding.run("kb", "search", "help", "frete grátis", "--json")
        plotted = embedding.run("kb", "search", "help", "frete", "--plot", str(tmp_path / "a.html"))
        assert plotted.returncode == 0, plotted.stderr
        assert ".eml" in (tmp_path / "a.html").read_text()
        uris = {json.loads(line)["document"] for line in found.stdout.splitlines()}
        assert {Path(each).suffix for each in uris} == {".txt", ".eml"}
    refused = embedding.run("kb", "follow", "help", *mailbox, "--password", PASSWORD)
    assert refused.returncode == 1
    assert "SourceError" in refused.stderr
    assert "password" in refused.stderr
    assert PASSWORD not in refused.stderr


def test_what_the_command_line_refuses(embedding: Stack, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "a.txt"
    path.write_text("text")
    cases = [
        (("create", "help"), "KnowledgeError: There is a collection 'help' already"),
        (("create", "short", "--chunk-limit", "9"), "Chunks cannot have 9 characters"),
        (("create", "a b"), "KnowledgeError: 'a b' is no collection's name"),
        (("add", "absent", str(path)), "CollectionNotFoundError"),
        (("add", "help", str(tmp_path / "empty")), "holds no document"),
        (("add", "help", str(path), "--metadata", "year"), "InvalidInputError: 'year' is not KEY"),
        (("search", "absent", "text"), "CollectionNotFoundError"),
        (("search", "help", " "), "KnowledgeError: The question is empty"),
        (("search", "help", "text", "--filter", "$like=3"), "FilterError"),
        (("stats", "absent"), "CollectionNotFoundError"),
        (("delete", "help", "a.txt", "--yes"), "KnowledgeError: There is no document 'a.txt'"),
    ]
    cases += [
        (("search", "help", "text", "--plot", str(tmp_path / "a.gif")), "end its name with .png"),
        (("search", "help", "text", "--plot", str(tmp_path / "a.png")), "has no documents"),
    ]
    for arguments, message in cases:
        done = embedding.run("kb", *arguments)
        assert done.returncode == 1, arguments
        assert message in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
