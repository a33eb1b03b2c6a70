"""The embedded default without servers: choices, files, ports, locks."""

import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rotina.cli import cli
from rotina.embedded import account, lock, model_server, process, wheels
from rotina.embedded.children import Child, Children
from rotina.embedded.process import Program
from rotina.embedded.project import require_project
from rotina.embedded.supervisor import Parts, _Ports, _Supervisor, embedded_parts
from rotina.errors import AlreadyRunningError, EmbeddedError, SettingsError
from rotina.settings import Deployment, Services, Settings, load_settings
from tests.sentence_model import write_model

PROJECT = Path(__file__).resolve().parents[2]
GIB = 1 << 30


def program(folder: Path, code: str) -> Program:
    return Program("tiny", (sys.executable, "-c", code), folder / "tiny.log")


class Silent:
    """A supervisor's report that nobody reads."""

    def line(self, text: str) -> None: ...

    def progress(self, name: str, done: int, total: int) -> None: ...


class TestParts:
    def test_everything_is_embedded_where_nothing_was_brought(self, tmp_path: Path) -> None:
        settings = load_settings(tmp_path, services=False)

        assert embedded_parts(settings) == Parts(postgres=True, valkey=True, chat=True, embed=True)

    def test_what_the_user_brings_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/db")
        monkeypatch.setenv("REDIS_URL", "redis://somewhere")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://somewhere/v1")
        monkeypatch.setenv("ROTINA_MODEL", "big")

        found = embedded_parts(load_settings(tmp_path, services=False))

        assert found == Parts(postgres=False, valkey=False, chat=False, embed=True)

    def test_an_embedding_model_leaves_out_the_embedding_server(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://somewhere/v1")
        monkeypatch.setenv("ROTINA_MODEL", "big")
        monkeypatch.setenv("ROTINA_EMBEDDING_MODEL", "vectors")

        assert not embedded_parts(load_settings(tmp_path, services=False)).embed

    def test_a_folder_with_an_embedding_model_is_served_instead_of_a_download(
        self, tmp_path: Path
    ) -> None:
        write_model(tmp_path / "models" / "tiny")
        settings = Settings(project_dir=tmp_path, embedding_folder=Path("models/tiny"))
        supervisor = _Supervisor(settings, Silent(), Children(print, []))
        parts = Parts(postgres=False, valkey=False, chat=False, embed=True)
        services = Services(supervisor_pid=1)

        assert supervisor._fetch(parts) == {}
        [child] = supervisor._models(parts, {}, _Ports(tmp_path / "ports.json"), services)

        assert child.program.name == "embed"
        deployment = Deployment.model_validate(services.deployments["embedded-embed"])
        assert (deployment.model, deployment.context) == ("tiny", 64)
        assert deployment.tokenizer == str(tmp_path / "models" / "tiny" / "tokenizer.json")
        assert services.routes["embed"]["cache_seconds"] > 0

    def test_one_of_the_two_chat_routes_is_not_enough(self, tmp_path: Path) -> None:
        (tmp_path / "rotina.toml").write_text(
            '[deployments.own]\nmodel = "m"\nbase_url = "http://somewhere/v1"\n'
            '[routes.fast]\ndeployments = ["own"]\n'
        )

        assert embedded_parts(load_settings(tmp_path, services=False)).chat


@pytest.mark.parametrize(("free", "slots"), [(0, 1), (2 * GIB, 1), (3 * GIB, 4), (64 * GIB, 4)])
def test_slots_follow_memory(free: int, slots: int) -> None:
    assert model_server.fitting_slots("qwen2.5-1.5b", 1_117_320_768, free) == slots


class TestPrivateFiles:
    def test_a_secret_is_kept_and_private(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "password"

        secret = process.secret_file(path)

        assert len(secret) == 43
        assert process.secret_file(path) == secret
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_writing_replaces_and_leaves_no_partial_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        process.write_private(path, "old")
        process.write_private(path, "new")

        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]


class TestPorts:
    def test_a_free_preferred_port_is_kept(self) -> None:
        port = process.free_port()

        assert process.free_port(port) == port

    def test_a_taken_preferred_port_is_replaced(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            taken = server.getsockname()[1]

            assert process.free_port(taken) != taken


class TestLogs:
    def test_a_large_log_moves_on_while_its_writer_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "a.log"
        with process.open_log(path) as writer:
            for text in (b"one" * 10, b"two" * 10, b"three" * 10):
                writer.write(text)
                writer.flush()
                process.rotate_log(path, limit=20)
            writer.write(b"four")
            writer.flush()

        assert path.read_bytes() == b"four"
        assert (tmp_path / "a.log.1").read_bytes() == b"three" * 10
        assert (tmp_path / "a.log.2").read_bytes() == b"two" * 10

    def test_the_tail_of_no_log_is_empty(self, tmp_path: Path) -> None:
        assert process.log_tail(tmp_path / "none.log") == ""

    def test_the_tail_is_the_end(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_text("x" * 5000 + "end")

        assert process.log_tail(tmp_path / "a.log", size=10) == "xxxxxxxend"


class TestSpawn:
    def test_only_from_the_main_thread(self, tmp_path: Path) -> None:
        caught: list[Exception] = []

        def attempt() -> None:
            try:
                process.spawn(program(tmp_path, ""))
            except EmbeddedError as error:
                caught.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

        assert "main thread" in str(caught[0])

    def test_a_missing_program_names_the_remedy(self, tmp_path: Path) -> None:
        absent = Program("tiny", (tmp_path / "absent",), tmp_path / "tiny.log")

        with pytest.raises(EmbeddedError, match=r"tiny cannot be started.*rotina\[embedded\]"):
            process.spawn(absent)

    def test_an_early_end_shows_the_log(self, tmp_path: Path) -> None:
        dying = program(tmp_path, "import sys; print('no such flag', flush=True); sys.exit(3)")
        child = process.spawn(dying)

        with pytest.raises(EmbeddedError, match=r"tiny ended while starting(.|\n)*no such flag"):
            process.wait_until(lambda: False, child, dying, timeout=30)

    def test_a_program_that_never_gets_ready_is_stopped(self, tmp_path: Path) -> None:
        slow = program(tmp_path, "import time; time.sleep(600)")
        child = process.spawn(slow)

        with pytest.raises(EmbeddedError, match="is not ready after 0 s"):
            process.wait_until(lambda: False, child, slow, timeout=0.2)
        assert child.returncode == -signal.SIGTERM

    def test_what_ignores_sigterm_is_killed(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        stubborn = program(
            tmp_path,
            "import pathlib, signal, time; signal.signal(15, signal.SIG_IGN); "
            f"pathlib.Path({str(ready)!r}).touch(); time.sleep(600)",
        )
        child = process.spawn(stubborn)
        process.wait_until(ready.exists, child, stubborn, timeout=30)

        process.stop(child, signal.SIGTERM, timeout=0.2)

        assert child.returncode == -signal.SIGKILL


class TestChildren:
    def test_five_quick_deaths_end_it_with_the_log(self, tmp_path: Path) -> None:
        said: list[str] = []
        children = Children(said.append)
        dying = Child(program(tmp_path, "raise SystemExit('the reason')"))

        def watch() -> None:
            while True:
                children.watch()
                dying.restart_at = dying.restart_at and 0.0  # do not wait in a test

        try:
            children.start([dying], timeout=30)
            with pytest.raises(EmbeddedError, match=r"died 5 times in a row(.|\n)*the reason"):
                watch()
        finally:
            children.stop()

        assert [line.partition(" ended")[0] for line in said] == ["tiny"] * 4


class TestLock:
    def test_a_second_holder_is_told_the_first(self, tmp_path: Path) -> None:
        with lock.hold(tmp_path) as held:
            assert lock.holder(tmp_path) == lock.Holder(os.getpid(), ready=False)
            held.announce(ready=True)
            assert lock.holder(tmp_path) == lock.Holder(os.getpid(), ready=True)
            with (
                pytest.raises(AlreadyRunningError, match=rf"{os.getpid()}.*`rotina down`"),
                lock.hold(tmp_path),
            ):
                pass

        assert lock.holder(tmp_path) is None
        assert lock.stop_holder(tmp_path, timeout=1) is None


class TestReach:
    def test_a_private_folder_cannot_be_entered_by_another(self, tmp_path: Path) -> None:
        stranger = account.Account("stranger", 54321, 54321)
        private = tmp_path / "private"
        private.mkdir(mode=0o700)

        assert not account.can_enter(private / "inside", stranger)
        assert account.can_enter(Path("/usr"), stranger)

    def test_a_shared_root_of_somebody_else_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loose = tmp_path / "loose"
        loose.mkdir()
        loose.chmod(0o777)
        monkeypatch.setattr(account, "SHARED_ROOTS", (loose,))

        with pytest.raises(EmbeddedError, match=r"only root can write to.*DATABASE_URL"):
            account.shared_root()


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(EmbeddedError, match=r"pip install 'rotina\[embedded\]'"):
        wheels.installed_folder("rotina_no_such_package")


def project(folder: Path, **more: Any) -> Settings:
    return Settings(project_dir=folder, **more)


def test_up_refuses_a_folder_that_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(PROJECT)])
    for arguments in (["up"], ["up", "--detach"]):
        done = CliRunner().invoke(cli, arguments)
        assert isinstance(done.exception, SettingsError)
        said = str(done.exception)
        for part in (str(tmp_path), "'workers.app'", "`rotina new NAME`", "--services-only"):
            assert part in said
    assert list(tmp_path.iterdir()) == [], "nothing was started, not even a data directory"
    # A folder of that name is no project, and an installed package may be one.
    (tmp_path / "workers").mkdir()
    with pytest.raises(SettingsError, match=r"no module 'workers\.app' \(setting `app`\)"):
        require_project(project(tmp_path))
    (tmp_path / "workers" / "app.py").write_text("raise RuntimeError('imported')")
    require_project(project(tmp_path))
    with pytest.raises(SettingsError, match=r"no module 'flows' \(setting `workflows`\)"):
        require_project(project(tmp_path, workflows=["flows"]))
    (tmp_path / "flows.py").touch()
    require_project(project(tmp_path, workflows=["flows"], app="rotina.worker.app"))
    require_project(project(PROJECT, workflows=["workflows"]))
