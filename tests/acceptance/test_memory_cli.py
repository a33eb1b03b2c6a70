"""`rotina memory` with a scripted embedding server."""

import json

from tests.acceptance.stack import Stack
from tests.acceptance.test_knowledge_cli import embedding

__all__ = ["embedding"]


def told(stack: Stack, *arguments: str) -> list[str]:
    done = stack.run("memory", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_memory_is_written_found_and_forgotten(embedding: Stack) -> None:
    assert told(embedding, "list") == []
    assert told(embedding, "search") == ["nothing is remembered there"]
    values = {
        ("customers/42", "tone"): "prefere respostas curtas",
        ("customers/42/orders", "last"): "the parcel is late",
        ("customers/43", "tone"): "likes details",
        ('["a/b", "c"]', "tone"): "has a slash",
    }
    for (namespace, key), text in values.items():
        told(embedding, "put", namespace, key, json.dumps({"text": text}), "--ttl", "60")
    assert told(embedding, "list", "customers") == [
        "customers/42", "customers/42/orders", "customers/43",
    ]  # fmt: skip
    assert '["a/b", "c"]' in told(embedding, "list")
    (line,) = told(embedding, "get", "customers/42", "tone")
    assert line == 'customers/42 tone  {"text": "prefere respostas curtas"}'
    (line,) = told(embedding, "get", '["a/b", "c"]', "tone", "--json")
    assert json.loads(line)["namespace"] == ["a/b", "c"]
    assert len(told(embedding, "search", "customers/42")) == 2
    only = ("--filter", "text=likes details", "--json")
    (line,) = told(embedding, "search", "customers", *only)
    assert json.loads(line)["namespace"] == ["customers", "43"]
    first, *_ = told(embedding, "search", "--query", '{"text": "the parcel is late"}')
    assert first.startswith("customers/42/orders last")

    declined = embedding.run("memory", "delete", "customers/42")
    assert declined.returncode == 1, "nobody said yes"
    assert told(embedding, "delete", "customers/42", "tone", "--yes") == ["forgot 1 values"]
    assert told(embedding, "delete", "customers", "--yes") == ["forgot 2 values"]
    assert told(embedding, "list") == ['["a/b", "c"]']


def test_what_is_refused(embedding: Stack) -> None:
    cases = [
        (("get", "customers", "x"), "Nothing is remembered at customers under 'x'"),
        (("delete", "customers", "x", "--yes"), "Nothing is remembered"),
        (("get", "customers//x", "x"), "'customers//x' is no namespace"),
        (("get", "[1]", "x"), "'[1]' is no namespace"),
        (("get", "[", "x"), "'[' is no namespace"),
        (("put", "customers", "x", "{"), "the value is not JSON"),
        (("put", "customers", "x", "[]"), "the value is not a JSON object"),
        (("put", "customers", "x", "{}", "--ttl", "0"), "--ttl is 0: give minutes"),
    ]
    for arguments, message in cases:
        done = embedding.run("memory", *arguments)
        assert done.returncode in {1, 2}
        assert message in done.stderr, arguments
        assert "Traceback" not in done.stderr
