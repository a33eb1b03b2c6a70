"""Every error of Rotina's has a status, a type and a title of its own, and the page lists them."""

import re
from pathlib import Path

import psycopg
import pytest

from rotina import errors
from rotina.errors import RotinaError
from rotina.server.errors import ModelNotFoundError, RevokedKeyError
from rotina.server.problems import STATUS, Problem, problem_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "http.md"
OWN = [ModelNotFoundError, RevokedKeyError]
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)] + OWN
KINDS = [kind for kind in KINDS if issubclass(kind, RotinaError)]


def problem(kind: type[Exception]) -> Problem:
    if kind is errors.TryLaterError:
        return problem_of(errors.TryLaterError("wait a little", seconds=2.4))
    return problem_of(kind("what and the remedy"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_becomes_a_problem_document(kind: type[RotinaError]) -> None:
    found = problem(kind)
    document = found.document()
    words = re.findall("[A-Z][a-z]*", kind.__name__.removesuffix("Error"))
    assert document["type"] == "urn:rotina:problem:" + "-".join(words).lower()
    assert document["title"].lower() == " ".join(words).lower()
    assert 400 <= document["status"] < 600
    assert document["detail"]
    assert ("Retry-After" in found.headers) == (document["status"] == 503)
    assert ("WWW-Authenticate" in found.headers) == (document["status"] == 401)


def test_what_the_callers_can_mend_is_not_the_servers_fault() -> None:
    for kind in KINDS:
        mendable = issubclass(
            kind,
            errors.DocumentError
            | errors.KnowledgeError
            | errors.SchemaError
            | errors.AccessError
            | errors.RunError,
        ) and not issubclass(kind, errors.TryLaterError)
        assert (problem(kind).status < 500) == (
            mendable
            or issubclass(
                kind,
                errors.ModelRequestError
                | errors.ModelRateLimitedError
                | errors.BudgetExceededError
                | errors.GuardError
                | ModelNotFoundError,
            )
        ), kind


def test_a_wait_is_told_in_whole_seconds() -> None:
    assert problem(errors.TryLaterError).headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("host=db password=x"), psycopg.InterfaceError("closed")]
)
def test_a_database_that_fails_is_a_reason_to_come_back(error: Exception) -> None:
    found = problem_of(error)
    assert (found.status, found.type) == (503, "urn:rotina:problem:database")
    assert "password" not in found.detail


def test_an_unknown_error_tells_nothing_but_its_id(caplog: pytest.LogCaptureFixture) -> None:
    found = problem_of(RuntimeError("password=x"))
    document = found.document()
    assert (document["status"], document["type"]) == (500, "about:blank")
    assert "password" not in str(document)
    assert document["id"] in caplog.text
    assert "password=x" in caplog.text, "the log is where the reason is"


def test_openais_form() -> None:
    found = problem(errors.ContextTooLongError)
    assert found.openai()["error"] == {
        "message": "what and the remedy",
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }
    assert found.headers["x-should-retry"] == "false"
    response = problem(errors.SchemaError).response("/v1/chat/completions")
    assert response.status_code == 400
    assert problem(errors.SchemaError).response("/v1/runs").status_code == 422


def test_the_page_lists_every_status() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*?) \|", text, re.MULTILINE))
    for kind, status in STATUS.items():
        if kind is not RotinaError:
            name = problem(kind).type.rpartition(":")[2]
            assert f"`{name}`" in rows[str(status)], (kind, status)
