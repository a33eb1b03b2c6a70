"""`rotina keys` and what `rotina serve` says before it serves."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rotina.cli import cli
from rotina.database import Pool
from rotina.errors import AccessError, DatabaseError, SettingsError
from rotina.server.errors import RevokedKeyError
from rotina.server.keys import KeyStore
from rotina.server.listening import listen
from rotina.server.serving import serve
from tests.serving import make_settings


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rotina.toml").write_text('tenant = "acme"\n')
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rotina(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_keys_are_made_listed_and_revoked(project: Path) -> None:
    made = rotina("keys", "create", "back office")
    assert made.exit_code == 0
    token = made.stdout.strip()
    scheme, prefix, secret = token.split("_", 2)
    assert (scheme, len(prefix), len(secret)) == ("rtn", 12, 43)
    other = rotina("keys", "create", "loja", "--tenant", "globex")
    assert other.stdout.strip() != token
    listed = rotina("keys", "list")
    assert secret not in listed.output
    assert f"{prefix}  acme  back office  never used" in listed.output
    rows = [json.loads(line) for line in rotina("keys", "list", "--json").stdout.splitlines()]
    assert [(row["name"], row["tenant"]) for row in rows] == [
        ("back office", "acme"),
        ("loja", "globex"),
    ]
    assert "revoked" in rotina("keys", "revoke", prefix).output
    assert "revoked" in rotina("keys", "list").output
    missing = rotina("keys", "revoke", "ffffffffffff")
    assert isinstance(missing.exception, AccessError)
    assert "rotina keys list" in str(missing.exception)


async def test_the_last_use_is_noted_to_the_minute(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotina.server.keys.KNOWN_SECONDS", 0.0)
    store = KeyStore(pool)
    made = await store.create("test", "acme")
    token = made.token.get_secret_value()
    assert token not in repr(made)
    assert (await store.check(token)).tenant == "acme"
    [first] = await store.list_keys()
    assert first.last_used_at is not None
    await store.check(token)
    assert (await store.list_keys())[0].last_used_at == first.last_used_at
    async with pool.connection() as connection:
        await connection.execute(
            "update rotina.api_key set last_used_at = last_used_at - interval '2 minutes'"
        )
    await store.check(token)
    noted = (await store.list_keys())[0].last_used_at
    assert noted is not None
    assert noted > first.last_used_at
    await store.revoke(made.key.prefix)
    with pytest.raises(RevokedKeyError, match="'test' was revoked"):
        await store.check(token)


async def test_a_good_key_is_remembered_for_seconds_only(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = KeyStore(pool), KeyStore(pool)
    made = await here.create("test", "acme")
    token = made.token.get_secret_value()
    monkeypatch.setattr("rotina.server.keys.KNOWN_SECONDS", 3600.0)
    found = await asyncio.gather(*(here.check(token) for _ in range(20)))
    assert all(key is found[0] for key in found), "one look for all who waited"
    await elsewhere.revoke(made.key.prefix)
    assert await here.check(token) is found[0], "not asked again yet"
    here._known = {digest: (0.0, key) for digest, (_, key) in here._known.items()}
    with pytest.raises(RevokedKeyError):
        await here.check(token)
    with pytest.raises(AccessError, match="unknown"):
        await here.check(f"{token}x")


@pytest.mark.parametrize(
    "token",
    ["", "rtn", "rtn_", "rtn__", "rtn_ab_", "rtn__secret", "sk-1", "rtn_é_x", "rtn_a_" + "x" * 999],
)
async def test_what_cannot_be_a_key_is_refused_without_asking(pool: Pool, token: str) -> None:
    with pytest.raises(AccessError, match="begin with rtn_"):
        await KeyStore(pool).check(token)


async def test_serve_says_why_it_does_not_start(
    database_url: str, empty_database_url: str, redis_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}.*--port"):
            await serve(make_settings(database_url, redis_url), "127.0.0.1", port)
    with pytest.raises(SettingsError, match="no port 70000"):
        listen("127.0.0.1", 70_000)
    with pytest.raises(DatabaseError, match="rotina migrate"):
        await serve(make_settings(empty_database_url, redis_url), "127.0.0.1", 0)
