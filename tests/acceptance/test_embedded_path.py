"""The whole path with nothing brought: `rotina up`, a PDF, a real model, `rotina down`."""

import json
from pathlib import Path

import pytest

from tests.acceptance.stack import PROJECT, Stack

INVOICE = PROJECT / "samples" / "documents" / "invoice-harbor-lights.pdf"


@pytest.mark.model
@pytest.mark.timeout(600)
def test_a_real_invoice_through_a_real_model(tmp_path: Path) -> None:
    """The smallest model that can do it: what it reads may be wrong, what is proven is there."""
    environment = {
        "ROTINA_DATA_DIR": str(tmp_path / "data"),
        "ROTINA_EMBEDDED_MODEL": "qwen2.5-0.5b",
    }
    stack = Stack(environment, tmp_path)
    started = stack.run("up", "--detach", timeout=400)
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        done = stack.run("run", "invoice_intake", str(INVOICE), "--json", timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        extraction = json.loads(done.stdout)["result"]["extraction"]
        text = extraction["document"]["text"]
        proven = [field for field in extraction["fields"] if field["proven"]]
        assert {"/number", "/total"} <= {field["path"] for field in proven}
        for field in proven:
            assert text[field["start"] : field["end"]] == field["quote"]
        (line,) = stack.run("runs", "--json").stdout.splitlines()
        shown = json.loads(stack.run("show", json.loads(line)["id"], "--json").stdout)
        (call,) = shown["model_calls"]
        assert call["outcome"] == "ok"
        assert call["prompt_tokens"] > call["completion_tokens"] > 0
    finally:
        assert stack.run("down").returncode == 0
