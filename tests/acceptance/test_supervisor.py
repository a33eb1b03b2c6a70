"""`rotina up`, `down` and `doctor` as real processes."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from rotina.settings import Settings, load_settings

ROTINA = (sys.executable, "-m", "rotina")
# Models of one's own at a closed port: only PostgreSQL and Valkey are embedded then.
BROUGHT_MODELS = """
[deployments.own]
model = "m"
base_url = "http://127.0.0.1:9/v1"
[routes]
fast = { deployments = ["own"] }
smart = { deployments = ["own"] }
embed = { deployments = ["own"] }
"""


class Project:
    """A folder with settings, and the commands run in it."""

    def __init__(self, folder: Path, settings: str = BROUGHT_MODELS) -> None:
        self.folder = folder
        self.data = folder / ".rotina"
        folder.mkdir(parents=True)
        (folder / "rotina.toml").write_text(settings)

    @contextmanager
    def up(self) -> Iterator["subprocess.Popen[str]"]:
        """A supervisor in the foreground, ready; killed at the end if it still runs."""
        with (self.folder / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [*ROTINA, "up", "--services-only"],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        try:
            until(lambda: "Ready." in self.said() or process.poll() is not None)
            assert process.poll() is None, self.said()
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            until(lambda: not self.processes())

    def said(self) -> str:
        return (self.folder / "output.txt").read_text()

    def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*ROTINA, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    def settings(self) -> Settings:
        return load_settings(self.folder)

    def processes(self) -> list[int]:
        """Everything alive that works in or was started for this project."""
        needle, found = str(self.data), []
        locations = [path.read_text().strip() for path in self.data.glob("*/location")]
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = " ".join([*process.cmdline(), process.cwd()])
                if any(place in words for place in (needle, *locations)):
                    found.append(process.pid)
        return found

    def pid_of(self, name: str) -> int:
        pattern = [line.split() for line in self.said().splitlines() if f" {name} " in line]
        return int(pattern[0][2])


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def works(settings: Settings) -> bool:
    """Whether both servers answer."""
    try:
        psycopg.connect(settings.require_database_url(), connect_timeout=2).close()
        with redis.Redis.from_url(settings.require_redis_url()) as client:
            return bool(client.ping())
    except (psycopg.OperationalError, redis.ConnectionError):
        return False


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project in a private folder; what root had to put elsewhere is removed afterwards."""
    tmp_path.chmod(0o700)
    yield Project(tmp_path / "shop")
    for location in tmp_path.rglob("location"):
        shutil.rmtree(Path(location.read_text().strip()).parent, ignore_errors=True)


def test_up_serves_a_migrated_database_and_ends_clean(project: Project) -> None:
    with project.up() as process:
        settings = project.settings()
        with psycopg.connect(settings.require_database_url()) as connection:
            row = connection.execute("select count(*) from rotina.migration").fetchone()
        assert row is not None
        assert row[0] > 0
        services = project.data / "services.json"
        assert stat.S_IMODE(services.stat().st_mode) == 0o600
        assert json.loads(services.read_text())["supervisor_pid"] == process.pid
        for url in (settings.require_database_url(), settings.require_redis_url()):
            assert url not in project.said()

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0

    assert project.said().splitlines()[-1] == "Stopped."
    assert not services.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_clean(project: Project, number: signal.Signals) -> None:
    with project.up() as process:
        process.send_signal(number)
        assert process.wait(60) == 0
        assert project.processes() == []


def test_killing_the_supervisor_leaves_no_process(project: Project) -> None:
    with project.up() as process:
        assert len(project.processes()) >= 3
        process.kill()
        process.wait()
        until(lambda: project.processes() == [])
        assert not (project.data / "services.json").exists()
    with project.up():  # and its data directory is usable at once
        assert works(project.settings())


def test_a_second_up_refuses_and_names_the_first(project: Project) -> None:
    with project.up() as process:
        second = project.call("up", "--services-only")

        assert second.returncode == 1
        assert f"process {process.pid}" in second.stderr
        assert "rotina down" in second.stderr
        assert works(project.settings())


def test_a_killed_service_comes_back_at_the_same_place(project: Project) -> None:
    with project.up():
        settings = project.settings()
        for name in ("postgres", "valkey"):
            os.kill(project.pid_of(name), signal.SIGKILL)
            until(lambda name=name: f"{name} ended with status -9" in project.said())  # type: ignore[misc]
            until(lambda: works(settings))


def test_a_killed_guard_is_replaced(project: Project) -> None:
    with project.up() as process:
        (first,) = guards(process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: guards(process.pid) not in ([], [first]))


def guards(supervisor: int) -> list[int]:
    """The guard processes of a supervisor."""
    found = []
    for child in psutil.Process(supervisor).children():
        with suppress(psutil.Error):
            found += [child.pid] if "guard.py" in " ".join(child.cmdline()) else []
    return found


def test_detach_and_down(project: Project) -> None:
    started = project.call("up", "--services-only", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        assert "Ready." in started.stdout
        assert works(project.settings())
        again = project.call("up", "--services-only", "--detach")
        assert again.returncode == 1
        assert "AlreadyRunningError" in again.stderr
    finally:
        stopped = project.call("down")
    assert stopped.stdout.startswith("Stopped (process ")
    assert project.processes() == []
    nothing = project.call("down")
    assert (nothing.returncode, nothing.stdout) == (0, f"Nothing runs on {project.data}.\n")


def test_detach_shows_why_it_did_not_start(project: Project) -> None:
    project.data.mkdir()
    (project.data / "postgres").write_text("in the way")

    started = project.call("up", "--services-only", "--detach")

    assert started.returncode == 1
    assert "ROTINA_DATA_DIR" in started.stderr
    assert project.processes() == []


def test_ports_and_data_stay(project: Project) -> None:
    with project.up():
        first = project.settings()
        with psycopg.connect(first.require_database_url()) as connection:
            connection.execute("create table kept as select 7 as number")
    with project.up():
        second = project.settings()
        with psycopg.connect(second.require_database_url()) as connection:
            row = connection.execute("select number from kept").fetchone()
    assert row == (7,)
    assert second.require_database_url() == first.require_database_url()
    assert second.require_redis_url() == first.require_redis_url()


def test_two_checkouts_side_by_side(project: Project) -> None:
    other = Project(project.folder.parent / "other")
    with project.up(), other.up():
        one, two = project.settings(), other.settings()
        assert works(one)
        assert works(two)
        assert one.require_database_url() != two.require_database_url()
        assert other.call("down").returncode == 0
        assert works(one)
        assert not works(two)


def test_a_worker_that_keeps_dying_ends_it_with_its_log(project: Project) -> None:
    """The app it names cannot be imported, so `rotina worker` ends at once."""
    (project.folder / "broken_app.py").write_text("import no_such_library\n")
    toml = project.folder / "rotina.toml"
    toml.write_text('app = "broken_app"\n' + toml.read_text())

    ended = project.call("up")

    assert ended.returncode == 1
    assert "died 5 times in a row" in ended.stderr
    assert "no_such_library" in ended.stderr
    assert project.processes() == []


def test_doctor_names_each_failure_and_ends_with_status_1(project: Project) -> None:
    done = project.call("doctor", "--json")

    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert "rotina up" in checks["postgres"]["remedy"]
    assert "rotina up" in checks["redis"]["remedy"]
    plain = project.call("doctor")
    assert plain.returncode == 1
    assert "remedy: " in plain.stdout


@pytest.mark.model
def test_everything_embedded_and_the_doctor_is_content(project: Project) -> None:
    (project.folder / "rotina.toml").write_text('embedded_model = "qwen2.5-0.5b"\n')
    with project.up():
        done = project.call("doctor", "--json")
        checks = {check["name"]: check for check in json.loads(done.stdout)}
        assert done.returncode == 0, checks
        assert "qwen2.5-0.5b" in checks["route smart"]["detail"]
        assert "512 dimensions" in checks["route embed"]["detail"]
        asyncio.run(_use_the_models(project.settings()))


async def _use_the_models(settings: Settings) -> None:
    from rotina.errors import ModelAuthError
    from rotina.gateway import Gateway

    schema = {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}
    async with Gateway(settings) as gateway:
        answer = await gateway.chat(
            [{"role": "user", "content": "Give me seven."}], schema=schema, max_tokens=40
        )
        assert answer.data == {"n": 7}
        texts = ["The cat sleeps.", "O gato dorme.", "Quarterly revenue rose."]
        together = (await gateway.embed(texts)).vectors
        alone = (await gateway.embed(texts[:1])).vectors
        assert together[0] == alone[0]  # what shares a request changes nothing
        assert _product(together[0], together[1]) > _product(together[0], together[2])
    for name in ("embedded-chat", "embedded-embed"):
        deployment = settings.deployments[name].model_copy(update={"api_key": None})
        stranger = settings.model_copy(
            update={"deployments": {**settings.deployments, name: deployment}}
        )
        async with Gateway(stranger) as gateway:
            call = (
                gateway.chat([{"role": "user", "content": "x"}], max_tokens=1)
                if name == "embedded-chat"
                else gateway.embed(["x"])
            )
            with pytest.raises(ModelAuthError):
                await call


def _product(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))
