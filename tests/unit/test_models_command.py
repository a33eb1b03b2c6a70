"""`rotina models`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rotina.cli.models import models

PROJECT = """
[deployments.gpu]
model = "qwen"
base_url = "http://user:hidden@gpu.internal:8000/v1?key=hidden"
api_key = "hidden"
tags = ["gpu", "eu"]
price = { input = 0.5, output = 1.5 }

[deployments.api]
provider = "anthropic"
model = "claude"

[routes.smart]
deployments = ["gpu", "api"]
strategy = "weighted"
weights = { gpu = 3 }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "ROTINA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rotina.toml").write_text("")
    return tmp_path


def test_deployments_and_routes_are_listed_without_secrets(project: Path) -> None:
    (project / "rotina.toml").write_text(PROJECT)
    found = CliRunner().invoke(models, catch_exceptions=False)
    assert found.output.splitlines() == [
        "gpu  qwen  gpu.internal  8192 tokens  $0.5/$1.5  [eu, gpu]",
        "api  claude  anthropic  8192 tokens  price unknown",
        "route smart: gpu, api (weighted)",
    ]
    told = CliRunner().invoke(models, ["--json"], catch_exceptions=False).output
    assert json.loads(told)["deployments"]["gpu"]["price"] == {"input": 0.5, "output": 1.5}
    assert "hidden" not in found.output + told


def test_a_project_without_a_model_is_told_what_to_do(project: Path) -> None:
    found = CliRunner().invoke(models, catch_exceptions=False)
    assert "rotina up" in found.output
