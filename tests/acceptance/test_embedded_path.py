"""The whole path with nothing brought: `rotina up`, a PDF, a real model."""

import json

import pytest

from tests.acceptance.stack import PROJECT, Stack

INVOICE = PROJECT / "samples" / "documents" / "invoice-harbor-lights.pdf"


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("embedded")
def test_a_real_invoice_through_a_real_model(embedded: Stack) -> None:
    """The smallest model that can do it: what it reads may be wrong, what is proven is there."""
    done = embedded.run("run", "invoice_intake", str(INVOICE), "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(done.stdout)
    extraction = run["result"]["extraction"]
    text = extraction["document"]["text"]
    proven = [field for field in extraction["fields"] if field["proven"]]
    assert {"/number", "/total"} <= {field["path"] for field in proven}
    for field in proven:
        assert text[field["start"] : field["end"]] == field["quote"]
    shown = json.loads(embedded.run("show", run["id"], "--json").stdout)
    (call,) = shown["model_calls"]
    assert call["outcome"] == "ok"
    assert call["prompt_tokens"] > call["completion_tokens"] > 0
