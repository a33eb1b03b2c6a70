"""Each of `rotina doctor`'s checks, healthy and failing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from rotina.embedded import doctor, doctor_database
from rotina.embedded.check import Check
from rotina.embedded.lock import hold
from rotina.errors import SettingsError
from rotina.settings import Settings
from rotina.worker.broker import check_broker
from tests.scripted_model import ScriptedModel


def settings(tmp_path: Path, **values: Any) -> Settings:
    return Settings(project_dir=tmp_path, cache_dir=tmp_path / "cache", **values)


def found(settings_: Settings) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(settings_)}


@pytest.fixture
def evicting(redis_url: str) -> Iterator[str]:
    """The session's Valkey with a policy that throws keys away."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield redis_url
        client.config_set("maxmemory-policy", "noeviction")


class TestBroker:
    def test_a_broker_that_keeps_all_is_accepted(self, redis_url: str) -> None:
        assert check_broker(redis_url)["maxmemory_policy"] == "noeviction"

    def test_an_evicting_one_is_refused_with_the_remedy(self, evicting: str) -> None:
        with pytest.raises(SettingsError, match="CONFIG SET maxmemory-policy noeviction") as raised:
            check_broker(evicting)
        assert "allkeys-lru" in str(raised.value)

    def test_a_dead_one_is_named_without_its_password(self) -> None:
        with pytest.raises(SettingsError, match=r"REDIS_URL.*refused") as raised:
            check_broker("redis://:hidden-secret@127.0.0.1:1/0")
        assert "hidden-secret" not in str(raised.value)

    def test_a_wrong_password_is_named_as_such(self, redis_url: str) -> None:
        password = urlsplit(redis_url).password or ""
        with pytest.raises(SettingsError, match="refuses the password"):
            check_broker(redis_url.replace(password, "wrong"))


class TestDoctor:
    def test_a_migrated_database_and_a_sound_broker_are_ok(
        self, tmp_path: Path, database_url: str, redis_url: str
    ) -> None:
        checks = found(settings(tmp_path, database_url=database_url, redis_url=redis_url))

        for name in ("postgres", "pgvector", "migrations", "clock", "redis", "disk", "permissions"):
            assert (checks[name].status, checks[name].remedy) == ("ok", None), checks[name]
        assert "PostgreSQL 18" in checks["postgres"].detail

    def test_nothing_configured_names_both_ways(self, tmp_path: Path) -> None:
        checks = found(settings(tmp_path))

        for name, variable in (("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")):
            remedy = checks[name].remedy or ""
            assert checks[name].status == "failed"
            assert variable in remedy
            assert "rotina up" in remedy
        for route in ("fast", "smart", "embed"):
            assert "OPENAI_BASE_URL" in (checks[f"route {route}"].remedy or "")

    def test_a_dead_database_is_named_without_its_password(self, tmp_path: Path) -> None:
        url = "postgresql://someone:hidden-secret@127.0.0.1:1/db"
        check = found(settings(tmp_path, database_url=url))["postgres"]

        assert check.status == "failed"
        assert "refused" in check.detail
        assert "DATABASE_URL" in (check.remedy or "")
        assert "hidden-secret" not in str(check.as_json())

    def test_missing_migrations_name_the_command(
        self, tmp_path: Path, empty_database_url: str
    ) -> None:
        check = found(settings(tmp_path, database_url=empty_database_url))["migrations"]

        assert check.status == "failed"
        assert "rotina migrate" in (check.remedy or "")

    def test_a_database_without_pgvector_names_the_command(
        self, tmp_path: Path, empty_database_url: str
    ) -> None:
        # A database without extensions comes from template0 alone.
        name = "without_vector"
        url = empty_database_url.rpartition("/")[0] + f"/{name}"
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            connection.execute(f"create database {name} template template0".encode())
            check = found(settings(tmp_path, database_url=url))["pgvector"]
            connection.execute(f"drop database {name} with (force)".encode())

        assert check.status == "failed"
        assert "CREATE EXTENSION vector" in (check.remedy or "")

    def test_an_old_server_and_a_wrong_clock_are_found(
        self, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The thresholds move, because neither server nor clock can be moved here."""
        monkeypatch.setattr(doctor_database, "OLDEST", 99)
        monkeypatch.setattr(doctor_database, "MOST_SKEW", -1.0)

        checks = found(settings(tmp_path, database_url=database_url))

        assert checks["postgres"].remedy == "move to version 99 or newer"
        assert checks["clock"].remedy == "synchronise both (NTP)"

    def test_an_evicting_broker_fails(self, tmp_path: Path, evicting: str) -> None:
        check = found(settings(tmp_path, redis_url=evicting))["redis"]

        assert check.status == "failed"
        assert "CONFIG SET maxmemory-policy noeviction" in (check.remedy or "")

    def test_secrets_that_others_may_read_fail(self, tmp_path: Path) -> None:
        data = tmp_path / ".rotina"
        data.mkdir()
        (data / "services.json").write_text("{}")
        (data / "services.json").chmod(0o644)

        check = found(settings(tmp_path))["permissions"]

        assert check.remedy == f"chmod 600 {data / 'services.json'}"

    def test_a_full_disk_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_FREE_BYTES", 10**18)

        checks = found(settings(tmp_path))

        assert "ROTINA_DATA_DIR" in (checks["disk"].remedy or "")
        assert "ROTINA_CACHE_DIR" in (checks["model cache"].remedy or "")

    def test_a_supervisor_that_is_not_ready_fails(self, tmp_path: Path) -> None:
        data = tmp_path / ".rotina"
        data.mkdir()
        with hold(data) as lock:
            assert found(settings(tmp_path))["supervisor"].status == "failed"
            lock.announce(ready=True)
            assert found(settings(tmp_path))["supervisor"].status == "ok"


async def test_models_that_answer_are_ok_and_dead_ones_fail(tmp_path: Path) -> None:
    async with ScriptedModel() as model:
        brought = settings(
            tmp_path,
            deployments={
                "own": {"model": "m", "base_url": model.base_url},
                "rank": {"model": "m", "base_url": model.base_url, "capabilities": ["rerank"]},
                "dead": {"model": "m", "base_url": "http://127.0.0.1:1/v1"},
            },
            routes={
                "fast": {"deployments": ["own"]},
                "smart": {"deployments": ["dead"]},
                "embed": {"deployments": ["own"]},
                "rank": {"deployments": ["rank"]},
            },
        )
        checks = await asyncio.to_thread(found, brought)

    assert checks["route fast"].status == "ok"
    assert "dimensions" in checks["route embed"].detail
    assert "reranks" in checks["route rank"].detail
    assert checks["route smart"].status == "failed"
    assert checks["route smart"].remedy
