"""docker-compose.yml, the image and the secrets fit together; no Docker engine is needed."""

import copy
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import (  # type: ignore[import-untyped]
    get_builtin_schema,
)

from rotina.cli import COMMANDS
from rotina.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
OURS = {"migrate", "worker-io", "worker-cpu", "beat", "server"}
ONE_SHOT = {"migrate"}

Compose = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> Compose:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def _problems(compose: Compose) -> list[str]:
    """Messages for what the compose specification's schema does not allow."""
    schema = get_builtin_schema("vendor.compose-spec")
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    return [error.message for error in validator(schema).iter_errors(compose)]


def test_the_file_is_valid_by_the_specification(compose: Compose) -> None:
    assert _problems(compose) == []


def test_the_schema_does_refuse(compose: Compose) -> None:
    spoilt = copy.deepcopy(compose)
    spoilt["services"]["beat"]["comand"] = ["beat"]
    assert any("comand" in problem for problem in _problems(spoilt))


def test_the_services_are_the_deployment(compose: Compose) -> None:
    assert set(compose["services"]) == {"postgres", "redis", "vllm", *OURS}
    for name in OURS:
        assert compose["services"][name]["command"][0] in COMMANDS


def test_every_lasting_service_has_a_healthcheck(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) != (name in ONE_SHOT), name


def test_services_wait_for_what_they_need(compose: Compose) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in OURS - ONE_SHOT:
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_ours_run_without_privileges(compose: Compose) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    final = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "apt-get" not in final


def test_only_the_server_is_published_and_to_this_machine_only(compose: Compose) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published == {"server": ["127.0.0.1:${ROTINA_PORT:-8000}:8000"]}
    assert compose["networks"]["data"]["internal"] is True


def test_redis_keeps_what_it_took(compose: Compose) -> None:
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_the_gpu_profile_reserves_an_nvidia_device(compose: Compose) -> None:
    vllm = compose["services"]["vllm"]
    (device,) = vllm["deploy"]["resources"]["reservations"]["devices"]
    assert vllm["profiles"] == ["gpu"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    served = vllm["command"][vllm["command"].index("--model") + 1]
    assert served == compose["services"]["worker-io"]["environment"]["ROTINA_MODEL"]


def test_secrets_come_from_files(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|DATABASE_URL", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert Path(value).name in service["secrets"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that `make secrets` writes."""
    script = ROOT / "deploy" / "secrets.sh"
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / script.name).write_bytes(script.read_bytes())
    subprocess.run(["sh", f"deploy/{script.name}"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / ".secrets"


def test_the_secrets_are_written_once(compose: Compose, secrets: Path) -> None:
    files = {secrets.parent / secret["file"] for secret in compose["secrets"].values()}
    contents = {path: path.read_text(encoding="utf-8") for path in files}

    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    # A container's user is not ours, so each file is readable; the folder keeps others out.
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
    assert (secrets / ".gitignore").read_text(encoding="utf-8") == "*\n"
    password = (secrets / "database_password").read_text(encoding="utf-8")
    assert re.fullmatch("[0-9a-f]{48}", password)
    assert password != (secrets / "postgres_password").read_text(encoding="utf-8")

    subprocess.run(["sh", "deploy/secrets.sh"], cwd=secrets.parent, check=True, capture_output=True)
    assert {path: path.read_text(encoding="utf-8") for path in files} == contents


def test_our_services_find_their_settings(
    compose: Compose, secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in compose["services"]["worker-io"]["environment"].items():
        default = re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
        monkeypatch.setenv(variable, default.replace("/run/secrets", str(secrets)))
    settings = load_settings(tmp_path)

    password = (secrets / "database_password").read_text(encoding="utf-8")
    assert settings.require_database_url() == f"postgresql://rotina:{password}@postgres:5432/rotina"
    assert settings.require_redis_url() == "redis://redis:6379/0"
    assert settings.deployments["openai"].model == settings.model == "Qwen/Qwen2.5-7B-Instruct"
    assert settings.deployments["openai"].secret() is None
    assert password not in repr(settings)


def test_the_init_script_makes_what_the_url_names(compose: Compose) -> None:
    script = (ROOT / "deploy" / "postgres-init.sh").read_text(encoding="utf-8")
    mounts = compose["services"]["postgres"]["volumes"]
    assert "./deploy/postgres-init.sh:/docker-entrypoint-initdb.d/rotina.sh:ro" in mounts
    assert "CREATE ROLE rotina LOGIN" in script
    assert "CREATE DATABASE rotina OWNER rotina" in script


def test_the_image_gets_every_file_it_copies() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for copied in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE):
        *sources, _ = copied.split()
        for name in sources:
            inside = [line[1:] for line in allowed if line.startswith("!")]
            assert any(entry == name or entry.startswith(name) for entry in inside), name
            assert (ROOT / name).exists()


def test_one_uv_sets_up_everything() -> None:
    (pinned,) = re.findall(r"^uv==(\S+)", (ROOT / ".ci" / "uv.txt").read_text(), re.MULTILINE)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert f"uv=={pinned}" in groups["dev"]
