"""The commands and healthchecks of docker-compose.yml, as plain processes on embedded servers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from rotina.embedded.process import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
STARTED = 120.0
"""Seconds after which a service that is not healthy counts as broken."""

Environment = dict[str, str]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found = loaded["services"]
    assert isinstance(found, dict)
    # A container has its ports to itself; this machine may use that one for something else.
    port = str(free_port())
    server = found["server"]
    assert "8000" in server["command"]
    server["command"] = [port if part == "8000" else part for part in server["command"]]
    form, test = server["healthcheck"]["test"]
    server["healthcheck"]["test"] = [form, test.replace(":8000/", f":{port}/")]
    return found


@pytest.fixture
def environment(
    services: dict[str, Any], empty_database_url: str, redis_url: str, tmp_path: Path
) -> Environment:
    """What the file and the image set, with the embedded servers for the named ones."""
    secrets = {"database_url": empty_database_url, "openai_api_key": "not-a-key"}
    variables = dict(services["worker-io"]["environment"])
    for name, value in secrets.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
        variables[f"{name.upper()}_FILE"] = str(tmp_path / name)
    variables |= {
        "REDIS_URL": redis_url,
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "ROTINA_MODEL": "none",
        "ROTINA_DATA_DIR": str(tmp_path / "data"),
        "HOSTNAME": socket.gethostname(),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    kept = {k: os.environ[k] for k in ("HOME", "LANG", "TMPDIR") if k in os.environ}
    return kept | variables


def _command(services: dict[str, Any], name: str) -> list[str]:
    return [str(BIN / "rotina"), *services[name]["command"]]


@contextmanager
def _running(
    command: list[str], environment: Environment, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
        assert process.poll() is None, log.read_text(encoding="utf-8")
        process.terminate()
        assert process.wait(60) == 0, log.read_text(encoding="utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _healthy(services: dict[str, Any], name: str, environment: Environment) -> bool:
    """Run the service's healthcheck once, with the interpolation that compose does."""
    form, test = services[name]["healthcheck"]["test"]
    assert form == "CMD-SHELL"
    done = subprocess.run(
        ["sh", "-c", test.replace("$$", "$")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def test_migrations_are_applied_once(services: dict[str, Any], environment: Environment) -> None:
    printed = [
        subprocess.run(
            _command(services, "migrate"),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert "applied" in printed[0]
    assert "nothing to apply" in printed[1]


@pytest.mark.parametrize("name", ["worker-io", "worker-cpu", "beat", "server"])
def test_a_service_starts_is_healthy_and_stops(
    services: dict[str, Any], environment: Environment, tmp_path: Path, name: str
) -> None:
    subprocess.run(
        _command(services, "migrate"), cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert not _healthy(services, name, environment | {"ROTINA_DATA_DIR": str(tmp_path / "none")})
    log = tmp_path / f"{name}.log"
    with _running(_command(services, name), environment, log) as process:
        deadline = time.monotonic() + STARTED
        while not _healthy(services, name, environment):
            still = process.poll() is None and time.monotonic() < deadline
            assert still, log.read_text(encoding="utf-8")
            time.sleep(0.5)
