"""Keys, limits, types and a database that is away: what is refused, and how it is said."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from io import BytesIO
from typing import Any

import psycopg
import pytest

from rotina.errors import InvalidInputError
from rotina.server.bodies import MAX_JSON_BYTES
from rotina.server.keys import KeyStore
from tests.serving import Served, make_settings, served

GREETING = {"workflow": "greet", "input": {"name": "Ana"}}
# The same in every process that collects the tests.
NOBODY = "01900000-0000-7000-8000-000000000000"
PROTECTED = [
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs"),
    ("GET", f"/v1/runs/{NOBODY}"),
    ("GET", f"/v1/runs/{NOBODY}/events"),
    ("GET", "/v1/workflows"),
    ("GET", "/v1/threads"),
    ("POST", "/v1/threads"),
    ("GET", f"/v1/threads/{NOBODY}"),
    ("GET", f"/v1/threads/{NOBODY}/messages"),
    ("POST", f"/v1/threads/{NOBODY}/messages"),
    ("GET", "/v1/reviews"),
    ("GET", f"/v1/reviews/{NOBODY}"),
    ("POST", f"/v1/reviews/{NOBODY}/answer"),
    ("POST", f"/v1/runs/{NOBODY}/cancel"),
    ("POST", f"/v1/runs/{NOBODY}/pause"),
    ("POST", f"/v1/runs/{NOBODY}/resume"),
    ("POST", f"/v1/runs/{NOBODY}/retry"),
    ("POST", "/v1/signals"),
    ("GET", "/v1/collections"),
    ("POST", "/v1/collections/help/search"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/smart"),
    ("GET", "/v1/nothing"),
]


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Served]:
    async with served(make_settings(database_url, redis_url, max_file_bytes=2_000_000)) as running:
        yield running


@pytest.fixture
async def key(server: Served) -> str:
    return await server.key("acme")


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_every_path_wants_a_key(server: Served, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = await server.ask(method, path, headers=headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        told = answer.body["error"]["message"] if "error" in answer.body else answer.body["detail"]
        assert "rotina keys create" in told


async def test_every_protected_path_is_tried_above(server: Served) -> None:
    declared = {
        (method, path.split("{")[0])
        for path, methods in server.app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/v1")
    }
    for method, start in declared:
        assert any(m.lower() == method and p.startswith(start) for m, p in PROTECTED), start


async def test_a_key_with_a_wrong_secret_is_unknown(server: Served, key: str) -> None:
    scheme, prefix, _ = key.split("_", 2)
    for wrong in (f"{scheme}_{prefix}_{'x' * 43}", f"{scheme}_{'0' * 12}_{'x' * 43}", key[:-1]):
        answer = await server.ask("GET", "/v1/runs", key=wrong)
        answer.refused(401, "access")
        assert wrong not in str(answer.body)


async def test_a_revoked_key_is_refused_at_once(server: Served, key: str) -> None:
    assert (await server.ask("GET", "/v1/runs", key=key)).status == 200
    keys: KeyStore = server.app.state.keys
    [listed] = await keys.list_keys()
    assert listed.last_used_at is not None
    await keys.revoke(listed.prefix)
    answer = await server.ask("GET", "/v1/runs", key=key)
    answer.refused(403, "revoked-key")
    again = await keys.revoke(key)
    assert again.revoked_at == (await keys.list_keys())[0].revoked_at
    with pytest.raises(InvalidInputError, match="name and a tenant"):
        await keys.create(" ", "acme")


async def test_only_a_hash_of_the_key_is_stored(server: Served, database_url: str) -> None:
    key = await server.key("acme")
    secret = key.split("_", 2)[2]
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute("select api_key::text from rotina.api_key").fetchall()
        assert secret not in row[0]
        connection.execute("set role rotina_tenant")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from rotina.api_key")


async def test_keys_are_never_logged(
    server: Served, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await server.ask("GET", "/v1/runs", key=key)
    await server.ask("GET", "/v1/runs", key=key + "x")
    secret = key.split("_", 2)[2]
    assert "GET /v1/runs" in caplog.text, "there is an access log"
    assert secret not in caplog.text


async def chunks(size: int) -> AsyncGenerator[bytes, None]:
    """A body of unannounced length."""
    for _ in range(size // 100_000):
        yield b" " * 100_000


async def test_a_body_that_is_too_large_is_refused(server: Served, key: str) -> None:
    json_type = {"Content-Type": "application/json"}
    form_type = {"Content-Type": "multipart/form-data; boundary=b"}
    for size, headers in ((MAX_JSON_BYTES, json_type), (3_000_000, form_type)):
        for data in (BytesIO(b" " * (size + 200_000)), chunks(size + 200_000)):
            answer = await server.ask("POST", "/v1/runs", key=key, data=data, headers=headers)
            answer.refused(413, "")
            assert f"{size:,}" in answer.body["detail"]


async def test_a_file_over_the_limit_is_refused(server: Served, key: str) -> None:
    from tests.integration.test_server_runs import form

    answer = await server.ask(
        "POST", "/v1/runs", key=key, data=form("count", BytesIO(b"x" * 2_000_001))
    )
    answer.refused(413, "document-too-large")
    fits = await server.ask(
        "POST", "/v1/runs", key=key, data=form("count", BytesIO(b"x" * 2_000_000))
    )
    assert fits.status == 202


async def test_a_body_without_a_key_is_not_read(server: Served) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 100_000

    headers = {"Content-Type": "application/json"}
    answer = await server.ask("POST", "/v1/runs", data=endless(), headers=headers)
    answer.refused(401, "access")
    assert sent > 0


async def test_other_content_types_are_refused(server: Served, key: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        headers = {"Content-Type": kind}
        answer = await server.ask("POST", "/v1/runs", key=key, data=b"{}", headers=headers)
        answer.refused(415, "")
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    (await server.ask("POST", "/v1/threads", key=key, data=b"x", headers=form)).refused(415, "")


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/threads"])
@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b"[" * 100_000])
async def test_what_is_no_json_is_refused(server: Served, key: str, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await server.ask("POST", path, key=key, data=body, headers=headers)
    assert answer.status in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["detail"]


async def test_unknown_paths_and_methods_are_problems_too(server: Served, key: str) -> None:
    (await server.ask("GET", "/v1/nothing", key=key)).refused(404, "")
    (await server.ask("GET", "/nothing")).refused(404, "")
    wrong = await server.ask("DELETE", "/v1/runs", key=key)
    wrong.refused(405, "")
    assert wrong.headers["allow"] in {"GET", "POST"}
    (await server.ask("GET", "/v1/runs/not-an-id", key=key)).refused(422, "invalid-request")
    for query in ("limit=0", "limit=x", "state=odd", "before=1"):
        answer = await server.ask("GET", f"/v1/runs?{query}", key=key)
        answer.refused(422, "invalid-request")
        assert query.split("=")[0] in answer.body["detail"]


async def test_an_idempotency_key_must_be_usable(server: Served, key: str) -> None:
    headers = {"Idempotency-Key": "k" * 256}
    answer = await server.ask("POST", "/v1/runs", key=key, json=GREETING, headers=headers)
    answer.refused(422, "invalid-request")


async def test_an_error_nobody_expected_has_an_id_that_is_in_the_log(
    server: Served, key: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("alter table rotina.thread rename to elsewhere")
    answer = await server.ask("GET", "/v1/threads", key=key)
    answer.refused(500, "")
    assert answer.body["id"] in caplog.text
    assert "elsewhere" not in str(answer.body)
    assert "Traceback" not in str(answer.body)
    assert "UndefinedTable" in caplog.text


async def test_a_database_that_is_away_is_said_and_nothing_is_accepted(
    server: Served, key: str, database_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotina.server.keys.LOOKUP_SECONDS", 1.0)
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                      "where datname = %s", [name])  # fmt: skip
        answer = await server.ask("POST", "/v1/runs", key=key, json=GREETING)
        answer.refused(503, "database")
        assert int(answer.headers["retry-after"]) > 0
        assert (await server.ask("GET", "/health")).status == 200
        ready = await server.ask("GET", "/ready")
        assert (ready.status, ready.body["database"], ready.body["redis"]) == (503, "failed", "ok")
        admin.execute(f"alter database {name} allow_connections true".encode())
    while (answer := await server.ask("POST", "/v1/runs", key=key, json=GREETING)).status == 503:
        pass
    assert answer.status == 202
    listed = (await server.ask("GET", "/v1/runs", key=key)).body["runs"]
    assert [run["id"] for run in listed] == [answer.body["id"]]


async def test_ready_tells_which_part_is_away(database_url: str, redis_url: str) -> None:
    async with served(make_settings(database_url, redis_url)) as server:
        ready = await server.ask("GET", "/ready")
        assert (ready.status, ready.body["status"]) == (200, "ok")
    async with served(make_settings(database_url, "redis://127.0.0.1:1/0")) as server:
        ready = await server.ask("GET", "/ready")
        assert (ready.status, ready.body["redis"], ready.body["database"]) == (503, "failed", "ok")


async def test_the_openapi_document_needs_no_key_and_names_what_is_answered(
    server: Served,
) -> None:
    document: dict[str, Any] = (await server.ask("GET", "/openapi.json")).body
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if path.startswith("/v1"):
                assert described["security"] == [{"ApiKey": []}], path
                assert "401" in described["responses"], path
            success = [status for status in described["responses"] if status.startswith("2")]
            kind = "text/plain" if path == "/metrics" else "application/json"
            schema = described["responses"][success[0]]["content"][kind]["schema"]
            assert schema, (method, path)
